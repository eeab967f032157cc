"""`fleet key` and `fleet token`: make, show, rotate and close what opens the fleet's doors."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.table import Column, Table

from fleet_cli.secrets import DEMO_TENANT, read_admin_key

if TYPE_CHECKING:
    from fleet_cli.__main__ import Here
    from fleet_common.redis import Redis

T = TypeVar("T")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DATES = ("created", "used", "expires", "revoked")


class Duration(click.ParamType[timedelta]):
    """A time written as a number and a unit, such as 30m, 24h or 7d."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the timedelta, or fail with an example."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,6})([smhd])", value)
        if found is None:
            self.fail(f"{value!r} is no time; write 30m, 24h or 7d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


_days = click.option(
    "--days", type=click.IntRange(1, 3650), help="Days until it expires; never by default."
)


@click.group()
def key() -> None:
    """Create, list, rotate and revoke fleet keys."""


@key.command("create")
@click.argument("name")
@click.option("--role", "roles", multiple=True, default=["viewer"], show_default=True)
@click.option("--tenant", default=DEMO_TENANT, show_default=True)
@_days
@click.pass_obj
def create(here: Here, name: str, roles: tuple[str, ...], tenant: str, days: int | None) -> None:
    """Make a key. It is shown once and stored only as a hash."""
    # Imported here: pydantic and YAML cost 0.3 s, and most commands need neither.
    from fleet_cli.policies import read_policy  # noqa: PLC0415

    here.state.ensure()
    policy = read_policy(here.state.policy_file(os.environ))
    new = key_file(here).create(
        name=name, roles=roles, tenant=tenant, expires=_after(days), policy=policy
    )
    _show_once(new.text)


@key.command("list")
@click.pass_obj
def show(here: Here) -> None:
    """Show the keys: how each begins and everything about it, but not the key itself."""
    # `fleet key revoke` wants all of this: no terminal is too narrow for it.
    columns = [Column(name, overflow="fold") for name in ("name", "tenant", "roles", *_DATES)]
    table = Table(Column("key", no_wrap=True, min_width=14), *columns, box=None)
    used = _last_used(here)
    for record in key_file(here).list():
        stamp = used.get(record.id)
        dates = (
            record.created[:10],
            f"{stamp:%Y-%m-%d %H:%M}" if stamp else "",
            (record.expires or "never")[:10],
            (record.revoked or "")[:10],
        )
        roles = ", ".join(record.roles)
        table.add_row(record.prefix, record.name, record.tenant, roles, *dates)
    here.console.print(table)


@key.command("rotate")
@click.argument("key_id", metavar="ID")
@click.option(
    "--overlap",
    type=Duration(),
    default="24h",
    show_default=True,
    help="How long the old secret works on; 0s ends it now.",
)
@_days
@click.pass_obj
def rotate(here: Here, key_id: str, overlap: timedelta, days: int | None) -> None:
    """Give a key a new secret. Name, roles and tenant stay, and so does the expiry without --days."""
    new = key_file(here).rotate(key_id, overlap=overlap, expires=_after(days))
    _show_once(new.text)
    click.echo(f"The old secret works until {new.record.old_until}.", err=True)


@key.command("revoke")
@click.argument("key_id", metavar="ID")
@click.pass_obj
def revoke(here: Here, key_id: str) -> None:
    """Close a key, everywhere, within a second."""
    record = key_file(here).revoke(key_id)
    click.echo(f"Revoked {record.id} ({record.name}).")


@click.group()
def token() -> None:
    """Close OAuth access tokens before they expire."""


@token.command("revoke")
@click.argument("token_id", metavar="JTI")
@click.option("--subject", is_flag=True, help="Close all tokens of the subject JTI instead.")
@click.pass_obj
def revoke_token(here: Here, token_id: str, *, subject: bool) -> None:
    """Close the token with this `jti`, everywhere, within seconds; tokens issued later work."""

    async def work(redis: Redis) -> None:
        from fleet_common.auth.revocation import Revocations  # noqa: PLC0415

        revocations = Revocations(redis)
        if subject:
            await revocations.revoke_subject(token_id.removeprefix("oauth:"))
        else:
            await revocations.revoke_token(token_id)

    _with_redis(here, work)
    what = "All tokens of" if subject else "Token"
    click.echo(f"{what} {token_id} revoked.")


def key_file(here: Here) -> Any:
    """Return the project's keys."""
    # Imported here, as above. Any: the type would need the import.
    from fleet_common.auth.keys import KeyFile  # noqa: PLC0415

    return KeyFile(here.state.keys_file)


def _last_used(here: Here) -> dict[str, datetime]:
    """Return when each key was used last, as far as Redis can tell now."""
    if not read_admin_key(here.state) and "FLEET_REDIS_URL" not in os.environ:
        return {}  # nothing ever ran here
    from fleet_common.auth.usage import KeyUsage  # noqa: PLC0415
    from fleet_common.redis import REDIS_AWAY  # noqa: PLC0415

    try:
        return _with_redis(here, lambda redis: KeyUsage(redis).read())
    except REDIS_AWAY:
        return {}


def _with_redis(here: Here, work: Callable[[Redis], Awaitable[T]]) -> T:
    from fleet_common.redis import create_redis  # noqa: PLC0415

    url = here.environment().redis_url

    async def run() -> T:
        redis = create_redis(url)
        try:
            return await work(redis)
        finally:
            await redis.aclose(close_connection_pool=True)

    return asyncio.run(run())


def _after(days: int | None) -> datetime | None:
    return datetime.now(UTC) + timedelta(days=days) if days else None


def _show_once(text: str) -> None:
    click.echo(text)
    click.echo("Keep it: it cannot be shown again.", err=True)
