"""`fleet`: run the whole fleet on this machine, look at it, connect clients to it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

from fleet_autoscale.simulate import simulate
from fleet_cli.accounts import accounts, connect_account, disconnect_account
from fleet_cli.approving import Gateway, waiting_table
from fleet_cli.audit import audit
from fleet_cli.connect import CLIENTS, KEY_VARIABLE, Endpoint, config_for, write_config
from fleet_cli.credentials import key, key_file, token
from fleet_cli.environment import Environment
from fleet_cli.errors import BadInput, FleetCommandError, NotRunning
from fleet_cli.gateway import registry, routes
from fleet_cli.ports import DEFAULT_BASE, SERVICES, Ports, plan_ports
from fleet_cli.reports import follow, print_log, settings_table, status_table
from fleet_cli.run import RunOptions, run_fleet
from fleet_cli.secrets import DEMO_TENANT, ensure_secrets, read_admin_key, read_approver_key
from fleet_cli.state import State, find_project
from fleet_cli.supervisor import read_run
from fleet_cli.switching import disable, disabled, enable
from fleet_common.errors import FleetError

F = TypeVar("F", bound=Callable[..., Any])
_CALL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Here:
    """Where the command works: the project, and the terminal."""

    state: State
    console: Console

    def ports(self) -> Ports:
        """Return the ports of the running fleet, else of the last one, else the usual ones."""
        return read_run(self.state).ports or plan_ports(DEFAULT_BASE, os.environ)

    def key(self) -> str:
        """Return the key to call with: FLEET_KEY, else the project's own.

        Raises:
            NotRunning: this project has never run a fleet.
        """
        key = os.environ.get(KEY_VARIABLE) or read_admin_key(self.state)
        if not key:
            raise NotRunning("This project has no key yet", hint="`fleet run` makes one.")
        return key

    def approver_key(self) -> str:
        """Return the key to approve with: FLEET_APPROVER_KEY, else the one of the people at this machine.

        Raises:
            NotRunning: this project has never run a fleet.
        """
        key = os.environ.get("FLEET_APPROVER_KEY") or read_approver_key(self.state)
        if not key:
            raise NotRunning("This project has no key yet", hint="`fleet run` makes one.")
        return key

    def environment(self) -> Environment:
        """Return what each process is told here."""
        self.state.ensure()
        return Environment(self.state, self.ports(), ensure_secrets(self.state), dict(os.environ))


class _Group(click.Group):
    """Turns our errors into one line on stderr and status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (FleetCommandError, FleetError) as exc:
            click.secho(exc.message, fg="red", err=True)
            if exc.hint:
                click.echo(exc.hint, err=True)
            ctx.exit(1)


_service = click.option(
    "--service", type=click.Choice(SERVICES), default="gateway", help="Whose URL; all by default."
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--project",
    # Absolute: children are told these paths, and they run in the project's folder.
    type=click.Path(path_type=Path, file_okay=False, exists=True, resolve_path=True),
    help="Folder whose .fleet/ is meant; the current checkout by default.",
)
@click.version_option(package_name="fleet-cli", prog_name="fleet")
@click.pass_context
def main(ctx: click.Context, project: Path | None) -> None:
    """Run a fleet of MCP servers on this machine, and connect clients to it."""
    ctx.obj = Here(State(project or find_project(Path.cwd())), Console())


@main.command()
@click.option("--port-base", default=DEFAULT_BASE, show_default=True, help="The gateway's port.")
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the URLs and a key here, as JSON, once all services answer.",
)
@click.pass_obj
def run(here: Here, port_base: int, ready_file: Path | None) -> None:
    """Start everything and stay until Ctrl-C."""
    options = RunOptions(project=here.state.project, port_base=port_base, ready_file=ready_file)
    run_fleet(options, os.environ, here.console)


@main.command()
@click.pass_obj
def status(here: Here) -> None:
    """Show each process: port, pid, readiness, uptime."""
    here.console.print(status_table(here.state))
    if not here.state.is_locked():
        here.console.print("The fleet is not running. `fleet run` starts it.")
        sys.exit(3)


@main.command()
@click.argument("service", required=False)
@click.option("-f", "--follow", "follows", is_flag=True, help="Go on as new lines come.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    default=40,
    show_default=True,
    help="Lines of each log.",
)
@click.pass_obj
def logs(here: Here, service: str | None, *, follows: bool, lines: int) -> None:
    """Show the newest lines of one process's log, or of all."""
    names = print_log(here.state, service, lines)
    if follows:
        follow(here.state, names)


@main.command()
@click.argument("client", type=click.Choice(list(CLIENTS)))
@_service
@click.option("--write", is_flag=True, help="Put it into the client's file, beside what is there.")
@click.pass_obj
def connect(here: Here, client: str, service: str, *, write: bool) -> None:
    """Print the configuration that a client needs."""
    name = "fleet" if service == "gateway" else f"fleet-{service}"
    public_url = os.environ.get(f"FLEET_{service.upper()}_PUBLIC_URL")
    url, key = here.ports().url(service), here.key()
    endpoint = Endpoint(name, service, url, key, here.state.project, public_url)
    config = config_for(client, endpoint)
    click.echo(config.text)
    if write:
        click.echo(f"Written to {write_config(config)}.", err=True)
    elif config.path is not None:
        click.echo(f"It belongs in {config.path}; --write puts it there.", err=True)
    if config.needs_key_variable:
        # On stderr, like every remark: the configuration alone can be piped into a file.
        click.echo(f"Before you start the client: export {KEY_VARIABLE}={endpoint.key}", err=True)
    if config.note:
        click.echo(config.note, err=True)


@main.command()
@click.argument("tool")
@click.argument("arguments", default="{}")
@_service
@click.option("--timeout", "timeout_s", default=_CALL_TIMEOUT_S, show_default=True, help="Seconds.")
@click.pass_obj
def call(here: Here, tool: str, arguments: str, service: str, timeout_s: float) -> None:
    """Call TOOL with ARGUMENTS, a JSON object, and print what it answers."""
    facts = _parsed(arguments)
    url, key = here.ports().url(service), here.key()
    # Imported here: FastMCP's client costs over a second, and only this command needs it.
    from fleet_cli.calling import call_tool, text_of  # noqa: PLC0415

    result = asyncio.run(call_tool(url, key, tool, facts, timeout_s=timeout_s))
    click.echo(text_of(result), err=result.is_error)
    if result.is_error:
        sys.exit(1)


@main.command()
@click.argument("approval_id", required=False)
@click.option("--deny", is_flag=True, help="Say no.")
@click.option("--list", "lists", is_flag=True, help="Show what waits, with the ids.")
@click.option("--gateway", "url", metavar="URL", help="Another gateway than this project's.")
@click.pass_obj
def approve(
    here: Here, approval_id: str | None, *, deny: bool, lists: bool, url: str | None
) -> None:
    """Decide on a call that waits for a person. FLEET_APPROVER_KEY, when set, says who you are."""
    gateway = Gateway(url or here.ports().base("gateway"), here.approver_key())
    if lists or approval_id is None:
        here.console.print(waiting_table(gateway.waiting()))
        return
    seen = gateway.look(approval_id)
    for line in (*seen.lines, f"Asked for by {seen.subject} with {seen.tool}."):
        click.echo(line)
    if not deny and not _confirmed():
        click.echo("Nothing was decided; --deny says no.")
        sys.exit(1)
    gateway.decide(seen, "denied" if deny else "approved")
    click.echo("Denied." if deny else "Approved: the same call now works once.")


def _confirmed() -> bool:
    """Return a person's answer; whoever has no terminal is none."""
    if not sys.stdin.isatty():
        raise BadInput("Approving needs a person at a terminal", hint="The page works too.")
    return click.confirm("Approve this one call?", err=True)


@main.command()
@click.argument("service", type=click.Choice(SERVICES), required=False)
@click.pass_obj
def config(here: Here, service: str | None) -> None:
    """Show the settings of the services, where each comes from, secrets masked."""
    environment = here.environment()
    for name in [service] if service else SERVICES:
        here.console.print(settings_table(name, environment))


@main.command()
@click.argument("service", type=click.Choice(SERVICES[1:]))
@click.pass_obj
def stdio(here: Here, service: str) -> NoReturn:
    """Be the stdio server of one service, for clients that start servers themselves."""
    environment = here.environment().of(service)
    environment.setdefault(f"FLEET_{service.upper()}_STDIO_KEY", here.key())
    command = [sys.executable, "-m", f"fleet_{service}", "stdio"]
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell; our own interpreter


for _command in (
    accounts,
    connect_account,
    disconnect_account,
    audit,
    disable,
    disabled,
    enable,
    key,
    registry,
    routes,
    simulate,
    token,
):
    main.add_command(_command)


@main.group()
def policy() -> None:
    """Check the policy file, and explain what it lets somebody do."""


@policy.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def policy_check(here: Here, file: Path | None) -> None:
    """Say what is wrong with FILE and with keys that hold several of its roles; by default the one of `fleet run`."""
    policies = _policies()
    path = file or here.state.policy_file(os.environ)
    _tell(policies.check(path, policies.read_catalogue(), key_file(here)))


@policy.command("explain")
@click.argument("who")
@click.argument("tool")
@click.option("--tenant", default=DEMO_TENANT, show_default=True, help="Of the caller, for a role.")
@click.pass_obj
def policy_explain(here: Here, who: str, tool: str, tenant: str) -> None:
    """Say whether WHO (a role, or a key by id or name) may use TOOL, and by which rule. Status 1 means no."""
    policies = _policies()
    rules = policies.read_policy(here.state.policy_file(os.environ))
    caller = policies.whose(who, rules, key_file(here), tenant=tenant)
    _tell(policies.explain(rules, caller, tool, policies.read_catalogue()))


def _tell(verdict: Any) -> None:
    for line in verdict.lines:
        click.echo(line)
    if not verdict.good:
        sys.exit(1)


def _policies() -> Any:
    # Imported here, as above: pydantic and YAML cost 0.3 s. Any: the type would need the import.
    from fleet_cli import policies  # noqa: PLC0415

    return policies


def _parsed(arguments: str) -> dict[str, Any]:
    try:
        facts = json.loads(arguments)
    except ValueError as exc:
        raise BadInput(f"ARGUMENTS is no JSON: {exc}", hint="Example: '{\"limit\": 5}'") from exc
    if not isinstance(facts, dict):
        raise BadInput("ARGUMENTS must be a JSON object", hint="Example: '{\"limit\": 5}'")
    return facts


if __name__ == "__main__":
    main()
