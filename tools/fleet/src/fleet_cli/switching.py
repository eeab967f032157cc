"""`fleet disable`, `fleet enable`, `fleet disabled`: the kill switch, for whoever can reach the fleet's Redis."""

from __future__ import annotations

import asyncio
import getpass
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click
from rich.table import Table

from fleet_cli.errors import BadInput
from fleet_cli.ports import SERVICES

if TYPE_CHECKING:
    from fleet_cli.__main__ import Here
    from fleet_common.switches import Kind, Switchboard, Switched

_TIMEOUT_S = 5.0

_kind = click.argument("kind", type=click.Choice(["tool", "key", "tenant", "service"]))
_name = click.argument("name")
_reason = click.option("--reason", required=True, help="Why; kept with your name and the time.")


@click.command()
@_kind
@_name
@_reason
@click.pass_obj
def disable(here: Here, kind: Kind, name: str, reason: str) -> None:
    """Switch off a tool (a glob), a key (its id), a tenant or a service, in the whole fleet at once."""
    remark = _slip(kind, name)
    asyncio.run(_disable(here.environment().redis_url, kind, name, reason))
    click.echo(f"The {kind} {name} is off in every process within two seconds.")
    if remark:
        click.echo(remark, err=True)


@click.command()
@_kind
@_name
@_reason
@click.pass_obj
def enable(here: Here, kind: Kind, name: str, reason: str) -> None:
    """Switch on again what `fleet disable` switched off."""
    if asyncio.run(_enable(here.environment().redis_url, kind, name, reason)):
        click.echo(f"The {kind} {name} is on again in every process within two seconds.")
        return
    click.echo(f"The {kind} {name} was not off; every process is told that it is on, all the same.")
    click.echo("`fleet disabled` shows what is off, under the names to use.", err=True)


@click.command()
@click.option("--history", is_flag=True, help="Everything that was ever switched, off and on.")
@click.pass_obj
def disabled(here: Here, *, history: bool) -> None:
    """Show what is switched off: by whom, since when and why."""
    table = Table("since", "what", *(["turned"] if history else []), "by", "why", box=None)
    for each in asyncio.run(_read(here.environment().redis_url, history=history)):
        turned = ["off" if each.is_off else "on"] if history else []
        what = f"{each.kind} {each.name}"
        table.add_row(f"{each.at:%Y-%m-%d %H:%M:%S}", what, *turned, each.by, each.reason)
    here.console.print(table if table.row_count else "Nothing is switched off.")


async def _disable(url: str, kind: Kind, name: str, reason: str) -> None:
    async with _board(url) as board:
        await board.disable(kind, name, by=_who(), reason=reason)


async def _enable(url: str, kind: Kind, name: str, reason: str) -> bool:
    async with _board(url) as board:
        return await board.enable(kind, name, by=_who(), reason=reason)


async def _read(url: str, *, history: bool) -> list[Switched]:
    async with _board(url) as board:
        return await (board.history() if history else board.disabled())


@asynccontextmanager
async def _board(url: str) -> AsyncGenerator[Switchboard]:
    # Imported here: they cost half a second, and only these commands need them.
    from fleet_common.redis import create_redis  # noqa: PLC0415
    from fleet_common.switches import Switchboard  # noqa: PLC0415

    redis = create_redis(url, timeout_s=_TIMEOUT_S)
    try:
        yield Switchboard(redis)
    finally:
        await redis.aclose(close_connection_pool=True)


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _slip(kind: Kind, name: str) -> str | None:
    """Return a remark on a name that may be a slip.

    Raises:
        BadInput: there is no such service.
    """
    if kind == "service" and name not in SERVICES:
        raise BadInput(f"There is no service {name!r}", hint=f"Services: {', '.join(SERVICES)}.")
    if kind == "tool" and not any(fnmatchcase(tool, name) for tool in _tools()):
        return f"No tool of this version is called {name}: check the name."
    return None


def _tools() -> list[str]:
    from fleet_cli.policies import read_catalogue  # noqa: PLC0415  # as above

    return [tool.name for tool in read_catalogue()]
