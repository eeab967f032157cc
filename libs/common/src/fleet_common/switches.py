"""The kill switch: a tool, a key, a tenant or a service is off in every process two seconds after somebody said so.

The switchboard is one Redis stream of what was switched, by whom, when and why; nothing is ever removed from it,
so it is its own history. A process reads it from the beginning when it opens and from where it was every second,
and keeps what it knows: while Redis is away, or when Redis comes back with nothing, a thing that was off stays off
until somebody switches it on. A process that has never read it is not ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import structlog

from fleet_common.audit import AuditEvent, AuditLog
from fleet_common.auth import Principal
from fleet_common.background import background
from fleet_common.errors import Disabled, InvalidInput, Unavailable
from fleet_common.health import Check, Health
from fleet_common.metrics import Metrics
from fleet_common.redis import REDIS_AWAY, Redis

log = structlog.get_logger()

Kind = Literal["tool", "key", "tenant", "service"]
KINDS: tuple[Kind, ...] = get_args(Kind)
STREAM = "fleet:switches"
_LOOK_EVERY_S = 1.0
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Switched:
    """One entry of the switchboard.

    Attributes:
        kind: what sort of thing it is.
        name: a glob of tool names, the id of a key (or the subject of another credential), a tenant or a service.
        is_off: whether it was switched off, or on again.
        by: who did it.
        reason: why; for operators, never shown to callers.
        at: when, by Redis's clock.
    """

    kind: Kind
    name: str
    is_off: bool
    by: str
    reason: str
    at: datetime

    @property
    def place(self) -> tuple[Kind, str]:
        """What the entry is about."""
        return self.kind, self.name


class Switchboard:
    """The shared record: what operators write and processes follow."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def disable(self, kind: Kind, name: str, *, by: str, reason: str) -> None:
        """Switch something off, everywhere.

        Raises:
            InvalidInput: there is no name or no reason.
            Unavailable: Redis cannot be reached; nothing has changed.
        """
        await self._add(kind, name, "off", by, reason)

    async def enable(self, kind: Kind, name: str, *, by: str, reason: str) -> bool:
        """Switch something on again, and return whether the board had it off.

        `name` reads as it did when it was switched off. A board that has forgotten (a Redis without persistence
        was restarted) takes the word all the same: processes may still remember.

        Raises:
            InvalidInput: there is no name or no reason.
            Unavailable: Redis cannot be reached; nothing has changed.
        """
        off = {each.place for each in await self.disabled()}
        await self._add(kind, name, "on", by, reason)
        return (kind, _normal(kind, name)) in off

    async def disabled(self) -> list[Switched]:
        """Return what is off now, oldest first.

        Raises:
            Unavailable: Redis cannot be reached.
        """
        off: dict[tuple[Kind, str], Switched] = {}
        for entry in await self.history():
            off.pop(entry.place, None)
            if entry.is_off:
                off[entry.place] = entry
        return list(off.values())

    async def history(self) -> list[Switched]:
        """Return everything that was ever switched, oldest first.

        Raises:
            Unavailable: Redis cannot be reached.
        """
        try:
            entries, _ = await self.read_after("0")
        except REDIS_AWAY as exc:
            raise Unavailable("Redis") from exc
        return entries

    async def read_after(self, position: str) -> tuple[list[Switched], str]:
        """Return the entries after `position`, and the position after them.

        Raises:
            REDIS_AWAY: it cannot be read now.
        """
        entries: list[Switched] = []
        while True:
            # Any: redis-py types the answers of all commands alike.
            rows: Any = await self._redis.xrange(STREAM, f"({position}", "+", count=_AT_ONCE)
            entries += filter(None, (_entry(row_id, fields) for row_id, fields in rows))
            if rows:
                position = rows[-1][0].decode()
            if len(rows) < _AT_ONCE:
                return entries, position

    async def _add(self, kind: Kind, name: str, turned: str, by: str, reason: str) -> None:
        if not name.strip() or not reason.strip():
            raise InvalidInput("a switch needs a name and a reason")
        fields: Any = {
            "kind": kind,
            "name": _normal(kind, name),
            "turned": turned,
            "by": by,
            "reason": reason,
        }
        try:
            await self._redis.xadd(STREAM, fields)
        except REDIS_AWAY as exc:
            raise Unavailable("Redis") from exc


class Switches:
    """What this process knows to be off.

    Args:
        redis: None when the fleet has none; then nothing can be switched.
        service: name of this service.
    """

    def __init__(
        self,
        redis: Redis | None,
        service: str,
        *,
        metrics: Metrics,
        health: Health,
        audit: AuditLog,
    ) -> None:
        self._board = Switchboard(redis) if redis is not None else None
        self._service = service
        self._health = health
        self._audit = audit
        self._gauge = metrics.gauge("mcp_switched_off", "Things that are switched off.").labels()
        self._off: dict[tuple[Kind, str], Switched] = {}
        self._position = "0"
        self._was_read = False

    def check(self, principal: Principal, tool: str | None = None) -> None:
        """Return when nothing that this call needs is off.

        Raises:
            Disabled: something is; the text says what, not why.
        """
        if not self._off:
            return
        places: tuple[tuple[Kind, str], ...] = (
            ("service", self._service),
            ("tenant", principal.tenant),
            ("key", _normal("key", principal.subject)),
        )
        for kind, name in places:
            if (kind, name) in self._off:
                raise Disabled(f"this {kind} has been switched off by the operators")
        if tool is not None and self.hides(tool):
            raise Disabled(f"the tool {tool} has been switched off by the operators")

    def hides(self, tool: str) -> bool:
        """Return whether lists leave `tool` out."""
        return bool(self._off) and any(
            kind == "tool" and fnmatchcase(tool, glob) for kind, glob in self._off
        )

    def hidden(self, tools: Iterable[str]) -> frozenset[str]:
        """Return those of `tools` that lists leave out."""
        return frozenset(filter(self.hides, tools)) if self._off else frozenset()

    def checks(self) -> tuple[Check, ...]:
        """Return what readiness must ask: who does not know what is off must not serve."""
        return (Check("switches", self._read_once),) if self._board is not None else ()

    @asynccontextmanager
    async def followed(self) -> AsyncGenerator[None]:
        """Follow the switchboard while the block runs."""
        if self._board is None:
            yield
            return
        await self._look(self._board)
        async with background(self._follow(self._board), name="switches"):
            yield

    async def _follow(self, board: Switchboard) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            await self._look(board)

    async def _look(self, board: Switchboard) -> None:
        try:
            entries, self._position = await board.read_after(self._position)
        except REDIS_AWAY as exc:
            if "switches" not in self._health.degraded:
                self._health.degraded.add("switches")
                log.warning("switches_unreadable", error=type(exc).__name__, off=len(self._off))
            return
        if "switches" in self._health.degraded:
            self._health.degraded.discard("switches")
            log.info("switches_readable_again")
        for entry in entries:
            self._apply(entry)
        self._was_read = True

    def _apply(self, entry: Switched) -> None:
        if entry.is_off:
            self._off[entry.place] = entry
        else:
            self._off.pop(entry.place, None)
        self._gauge.set(len(self._off))
        if self._was_read:  # else it is history, and was told when it happened
            self._tell(entry)

    def _tell(self, entry: Switched) -> None:
        log.warning(
            "switched_off" if entry.is_off else "switched_on",
            kind=entry.kind,
            name=entry.name,
            by=entry.by,
            reason=entry.reason,
        )
        event = AuditEvent(
            action="command",
            target=f"{entry.kind} {entry.name}",
            decision="disable" if entry.is_off else "enable",
            outcome="ok",
            rule=entry.reason,
            subject=entry.by,
        )
        self._audit.append(event)

    async def _read_once(self) -> None:
        if not self._was_read:
            raise Unavailable("the switchboard")


def _normal(kind: Kind, name: str) -> str:
    """Return a key's id for what a principal calls `key:<id>`."""
    return name.strip().removeprefix("key:") if kind == "key" else name.strip()


def _entry(row_id: bytes, fields: dict[bytes, bytes]) -> Switched | None:
    """Return the entry that a row of the stream holds; None for one that a newer version wrote."""
    text = {key.decode(): value.decode("utf-8", "replace") for key, value in fields.items()}
    kind = next((kind for kind in KINDS if kind == text.get("kind")), None)
    if kind is None or text.get("turned") not in ("on", "off") or not text.get("name"):
        log.error("switch_unknown", row=row_id.decode())
        return None
    return Switched(
        kind=kind,
        name=text["name"],
        is_off=text["turned"] == "off",
        by=text.get("by", ""),
        reason=text.get("reason", ""),
        at=datetime.fromtimestamp(int(row_id.partition(b"-")[0]) / 1000, UTC),
    )
