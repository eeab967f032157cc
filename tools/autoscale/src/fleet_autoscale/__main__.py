"""`python -m fleet_autoscale`: check the scaling policy, make files of it, and see what it would do."""

from __future__ import annotations

from pathlib import Path

import click

from fleet_autoscale.policy import Policy
from fleet_autoscale.rendering import stale, write
from fleet_autoscale.rendering.sizing import table
from fleet_autoscale.simulate import policy_option, simulate


@click.group()
def main() -> None:
    """Check the scaling policy, make files of it, and see what it would do."""


@main.command()
@policy_option
def lint(policy: Policy) -> None:
    """Check the policy, and print what follows from it for each service's pods."""
    click.echo(table(policy))


@main.command()
@policy_option
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="The repository.",
)
@click.option(
    "--check", "only_checks", is_flag=True, help="Write nothing; fail if something would."
)
def render(policy: Policy, root: Path, *, only_checks: bool) -> None:
    """Make rules, alerts, dashboards, HPAs, ScaledObjects, the schema and the table of docs/scaling.md."""
    changed = stale(policy, root) if only_checks else write(policy, root)
    for path in changed:
        click.echo(path)
    if only_checks and changed:
        raise click.ClickException("not what the policy makes them: run `make render`")


main.add_command(simulate)

if __name__ == "__main__":
    main()
