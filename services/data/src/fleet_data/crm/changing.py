"""Changing records: every change is one transaction, one change set, and happens once per idempotency key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from uuid import UUID

from fleet_common.idempotency import KeyedCall, Records, once
from fleet_data.claims import Caller
from fleet_data.ids import uuid7


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What belongs together and is undone together.

    Attributes:
        tool: what the caller called.
        undoes: the set that this one takes back.
    """

    id: UUID
    tool: str
    undoes: UUID | None = None

    @property
    def settings(self) -> dict[str, str]:
        """Return what the triggers of the change log read from the transaction."""
        told = {"app.change_set": str(self.id), "app.tool": self.tool}
        return told if self.undoes is None else {**told, "app.undoes": str(self.undoes)}


@dataclass(frozen=True, slots=True)
class Change:
    """One call of a tool that changes records.

    Attributes:
        arguments: everything that makes it this change and no other, as JSON; a repeated key must bring the same.
        key: the caller's idempotency key.
        dry_run: do everything and keep nothing.
    """

    caller: Caller
    tool: str
    arguments: Any
    key: str | None = None
    dry_run: bool = False
    undoes: UUID | None = None
    id: UUID = field(default_factory=uuid7)

    @property
    def keyed(self) -> KeyedCall | None:
        """Return the call that the key names; a dry run takes none."""
        if self.key is None or self.dry_run:
            return None
        return KeyedCall.of(
            self.caller.tenant, self.caller.subject, self.tool, self.key, self.arguments
        )

    @property
    def change_set(self) -> ChangeSet:
        """Return the set that the change makes."""
        return ChangeSet(self.id, self.tool, self.undoes)


class Keyed(Protocol):
    """A transaction that also keeps idempotency keys."""

    @property
    def records(self) -> Records:
        """Return where they are kept."""


T_co = TypeVar("T_co", bound=Keyed, covariant=True)
Made = TypeVar("Made", bound=Keyed)


class Changing(Protocol[T_co]):
    """Where changes are made."""

    def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AbstractAsyncContextManager[T_co]:
        """Yield a transaction that is kept when `keep` is true and nothing is raised."""


async def changed(
    store: Changing[Made], call: Change, make: Callable[[Made], Awaitable[Any]]
) -> Any:
    """Return what `make` answered, as JSON, the first time `call` was made; later calls change nothing.

    Raises:
        KeyReused: the key was used with other arguments.
    """
    opened = store.changing(call.caller, change_set=call.change_set, keep=not call.dry_run)
    async with opened as changes:
        if call.keyed is None:
            return await make(changes)
        return await once(changes.records, call.keyed, lambda: make(changes))


async def planned(
    store: Changing[Made], call: Change, look: Callable[[Made], Awaitable[Any]]
) -> Any | None:
    """Return what `look` found out about a change to come; None when it was answered before and changes nothing.

    Raises:
        KeyReused: the key was used with other arguments.
    """
    async with store.changing(call.caller, change_set=call.change_set, keep=False) as changes:
        if call.keyed and await changes.records.answered(call.keyed) is not None:
            return None
        return await look(changes)
