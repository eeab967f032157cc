"""What can be done with segments: see whom one would reach, and say who is in a list."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Any, Protocol
from uuid import UUID

from fleet_common.errors import InvalidInput, NotFound
from fleet_data.claims import Caller
from fleet_data.crm.changing import Change, ChangeSet, Keyed, changed
from fleet_data.crm.filters import Filter
from fleet_data.crm.models import Segment
from fleet_data.crm.questions import Known, Question, understood
from fleet_data.crm.service import Crm
from fleet_data.segments.models import Counts, Membership, Preview

_MEMBERS = "segment_members"
_MOST = 100_000  # records that one call lists, as a campaign reaches


class Listing(Keyed, Protocol):
    """A transaction that changes lists."""

    async def listed(self, segment: UUID) -> str:
        """Return the object whose records a list holds."""

    async def existing(self, name: str, ids: Collection[str]) -> set[str]:
        """Return those of the ids that are records of this object."""

    async def add(self, segment: UUID, ids: Collection[str]) -> int:
        """Return how many were added."""

    async def remove(self, segment: UUID, ids: Collection[str]) -> int:
        """Return how many were removed."""

    async def size(self, segment: UUID) -> int:
        """Return how many members a list has."""


class Store(Protocol):
    """Where segments are."""

    async def count(self, caller: Caller, asked: Question) -> Counts:
        """Return how many records are found, and how many of them may not be written to."""

    async def named(self, caller: Caller, name: str) -> str | None:
        """Return the id of the segment of this id or name, or None."""

    def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AbstractAsyncContextManager[Listing]:
        """Yield a transaction that is kept when `keep` is true and nothing is raised."""


@dataclass(frozen=True, slots=True)
class Members:
    """One call of segment_members: by ids or by a filter."""

    segment: UUID
    ids: Sequence[UUID] | None = None
    where: Filter | None = None
    remove: bool = False


class Segments:
    """The segments of every tenant; each call says on whose behalf."""

    def __init__(self, store: Store, known: Known, crm: Crm) -> None:
        self._store = store
        self._known = known
        self._crm = crm

    async def find(self, caller: Caller, id_: UUID) -> Segment:
        """Return a segment.

        Raises:
            NotFound: there is none.
        """
        segment = await self._known.segment(caller, id_)
        if segment is None:
            raise NotFound("segment", id_)
        return segment

    async def named(self, caller: Caller, name: str) -> Segment:
        """Return a segment by its id or its name.

        Raises:
            NotFound: there is none.
        """
        found = await self._store.named(caller, name)
        if found is None:
            raise NotFound("segment", name[:120])
        return await self.find(caller, UUID(found))

    async def preview(
        self, caller: Caller, name: str, where: Filter | None, *, sample: int
    ) -> Preview:
        """Return how many records of an object a filter finds, who of them may be written to, and some of them.

        Raises:
            as `Crm.search`.
        """
        asked = await understood(self._known, caller, name, where)
        counts = await self._store.count(caller, asked)
        return Preview(
            name, counts, await self._crm.search(caller, name, where=where, limit=sample)
        )

    async def change(
        self, caller: Caller, members: Members, *, key: str | None, dry_run: bool
    ) -> Membership:
        """Add records to a list, or remove them; those that are as they should be stay.

        Raises:
            InvalidInput: neither ids nor a filter are given, or both are.
            NotFound: there is no such segment.
            Conflict: the segment is a filter.
            KeyReused: the key was used with other arguments.
        """
        if (members.ids is None) == (members.where is None):
            raise InvalidInput("give either ids or filter")
        segment = await self.find(caller, members.segment)
        found = None
        if members.where is not None:
            found = await self._crm.ids(caller, segment.object, members.where, most=_MOST)
        told = [members.segment, members.ids, members.where, members.remove]
        call = Change(caller, _MEMBERS, [str(each) for each in told], key, dry_run)

        async def make(changes: Listing) -> Any:
            return asdict(await _changed(changes, members, found, dry_run=dry_run))

        return Membership(**await changed(self._store, call, make))


async def _changed(
    changes: Listing, members: Members, found: Sequence[str] | None, *, dry_run: bool
) -> Membership:
    name = await changes.listed(members.segment)
    wanted = list(dict.fromkeys(found or map(str, members.ids or ())))
    if members.remove:
        count = await changes.remove(members.segment, wanted)
        size = await changes.size(members.segment)
        return Membership(count, len(wanted) - count, size, dry_run=dry_run)
    there = await changes.existing(name, wanted)
    count = await changes.add(members.segment, there)
    size = await changes.size(members.segment)
    missing = [each for each in wanted if each not in there]
    return Membership(count, len(there) - count, size, missing, dry_run)
