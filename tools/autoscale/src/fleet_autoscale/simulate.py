"""The command `simulate`, for `python -m fleet_autoscale` and for `fleet`.

What it works with is imported when it runs: numba is an extra, and the models would cost every other `fleet` command
a third of its start.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from fleet_autoscale.policy import Policy

# Any: a command takes what its options give
F = TypeVar("F", bound=Callable[..., Any])
_MISSING = 'The simulator is an extra: pip install "fleet-autoscale[simulate]"'


# click's ParamType has become generic; at run time it may not be
class _PolicyFile(click.ParamType["Policy"]):
    name = "file"

    def convert(
        self, value: str | Policy, param: click.Parameter | None, ctx: click.Context | None
    ) -> Policy:
        """Return the policy of a file."""
        from fleet_autoscale.policy import BadPolicy, load  # noqa: PLC0415 - see above

        if not isinstance(value, str):
            return value
        try:
            return load(Path(value))
        except BadPolicy as exc:
            self.fail(str(exc), param, ctx)


class _Period(click.ParamType[tuple[float, float]]):
    name = "from-to"

    def convert(
        self,
        value: str | tuple[float, float],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[float, float]:
        """Return two times in seconds."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d+)-(\d+)", value)
        if not found or int(found[1]) >= int(found[2]):
            self.fail("expected two seconds of the trace, as 600-1200", param, ctx)
        return float(found[1]), float(found[2])


policy_option = click.option(
    "--policy",
    type=_PolicyFile(),
    default=str(Path(__file__).with_name("policy.yaml")),
    help="Default: the fleet's own.",
)


def _fault(name: str, text: str) -> Callable[[F], F]:
    return click.option(name, type=_Period(), default=None, help=text)


@click.command()
@policy_option
@click.option(
    "--service",
    "names",
    multiple=True,
    default=["data"],
    show_default=True,
    help="Also several times, or `all`.",
)
@click.option("--trace", default="diurnal", show_default=True, help="Or one of those --help lists.")
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV of seconds and calls per second, or JSON of Prometheus' query_range.",
)
@click.option("--hours", default=1.0, show_default=True, help="Length of a made trace.")
@click.option("--rate", type=float, help="Base rate of a made trace, in calls per second.")
@click.option("--seed", default=1, show_default=True, help="The first one.")
@click.option("--seeds", default=1, show_default=True, help="So many runs of each policy.")
@click.option("--ours", "is_alone", is_flag=True, help="Only this policy, not those others ship.")
@click.option("--to-zero", is_flag=True, help="As KEDA scales: to zero pods when idle.")
@click.option("--connections", default=0, help="Of a downstream that all pods share; 0: no limit.")
@_fault("--brownout", "Seconds in which the downstream takes four times as long.")
@_fault("--outage", "Seconds in which Prometheus does not answer.")
@_fault("--stale", "Seconds in which Prometheus sees nothing new.")
@_fault("--full-nodes", "Seconds in which a new pod waits 90 s for a node.")
@click.option("--rollout", type=float, help="When a new version replaces all pods.")
@click.option("--fluid/--exact", "is_fluid", default=None, help="Default: fluid past 2e8 calls.")
@click.option("--tune", is_flag=True, help="Look for the cheapest policy that keeps --target.")
@click.option("--target", default=99.3, show_default=True, help="SLO for --tune, in percent.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture: .svg or .png."
)
def simulate(**options: Any) -> None:  # Any: one value of each type above
    """Run traffic against a service that a policy scales, and print what came of it.

    Traces: diurnal, step, spike, bursty, ramp, stairs, shift.
    SLO is the share of calls within the objective, of those that could be; a shed call is a miss. Cost is in pod-hours
    of somebody who knows the future and starts pods at once.
    """
    services = options["policy"].services
    chosen = options.pop("names")
    names = list(services) if "all" in chosen else chosen
    if not services.keys() >= set(names):
        known = ", ".join(services)
        raise click.BadParameter(f"the policy has: {known}", param_hint="--service")
    try:
        from fleet_autoscale.simulation import command  # noqa: PLC0415 - an extra
    except ImportError:
        raise click.ClickException(_MISSING) from None
    try:
        click.echo(command.run([command.Request(name=name, **options) for name in names]))
    except command.BadTrace as exc:
        raise click.ClickException(str(exc)) from None
