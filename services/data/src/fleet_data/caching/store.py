"""The CRM's store with a cache in front of what is read by id, and nothing in front of the rest."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic_core import from_json, to_json

from fleet_common.cache import Cache
from fleet_common.digests import digest_of
from fleet_data.caching.epochs import Epochs
from fleet_data.claims import Caller
from fleet_data.crm.changing import ChangeSet
from fleet_data.crm.models import FieldDef, Named, ObjectDef, Position, Search, Segment
from fleet_data.crm.properties import Definition
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.repository.store import CrmTransaction

_KEPT = timedelta(seconds=60)


class CachedStore:
    """Reads through a cache; a change made here is seen by the next reader, wherever that is."""

    def __init__(self, store: CrmRepository, cache: Cache, epochs: Epochs) -> None:
        self._store = store
        self._cache = cache
        self._epochs = epochs
        self.hits = 0
        self.misses = 0

    async def search(
        self, caller: Caller, search: Search
    ) -> tuple[list[tuple[Any, ...]], Position | None]:
        """Return the rows of a page, and where it ends when there is more."""
        return await self._store.search(caller, search)

    async def stages(self, caller: Caller) -> list[dict[str, Any]]:
        """Return the stages of every pipeline, in order."""
        return await self._store.stages(caller)

    async def get(
        self, caller: Caller, of: ObjectDef, fields: Sequence[FieldDef], ids: Sequence[UUID]
    ) -> dict[str, tuple[Any, ...]]:
        """Return the records that are there, by id."""

        async def make() -> Any:
            return await self._store.get(caller, of, fields, ids)

        found = await self._through(caller, of.name, _records(fields, ids), make)
        return {id_: tuple(row) for id_, row in found.items()}

    async def life_of(
        self, caller: Caller, of: ObjectDef, fields: Sequence[FieldDef], ids: Sequence[UUID]
    ) -> timedelta | None:
        """Return how long the answer of `get` is still kept; None when it is not."""
        epochs = await self._epochs.read(caller.tenant, [of.name])
        if epochs is None:
            return None
        key = self._key(caller, of.name, epochs, _records(fields, ids))
        return await self._cache.life_of(key)

    async def properties(self, caller: Caller, name: str) -> list[Definition]:
        """Return the custom properties of an object."""

        async def make() -> Any:
            return [asdict(each) for each in await self._store.properties(caller, name)]

        return [Definition(**each) for each in await self._through(caller, "property", name, make)]

    async def names(self, caller: Caller, kind: Named, prefix: str) -> list[str]:
        """Return names that begin so."""
        return await self._store.names(caller, kind, prefix)

    async def segment(self, caller: Caller, id_: UUID) -> Segment | None:
        """Return a segment, or None when there is none."""
        return await self._store.segment(caller, id_)

    @asynccontextmanager
    async def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AsyncGenerator[CrmTransaction]:
        """Yield a transaction; what it did stays only when `keep` is true and nothing was raised."""
        async with self._store.changing(caller, change_set=change_set, keep=keep) as changes:
            yield changes
        if keep:  # the database tells everybody, but this caller may ask before it does
            await self._epochs.advance((caller.tenant, name) for name in changes.touched)

    async def _through(
        self, caller: Caller, name: str, question: Any, make: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Return the answer as JSON, kept under all that it depends on."""
        epochs = await self._epochs.read(caller.tenant, [name])
        if epochs is None:
            return await make()
        self.hits += 1

        async def made() -> tuple[Any, bytes]:
            self.hits, self.misses = self.hits - 1, self.misses + 1
            answer = await make()
            return answer, to_json(answer)

        return await self._cache.through(
            self._key(caller, name, epochs, question),
            name="crm",
            ttl=_KEPT,
            make=made,
            unpack=from_json,
        )

    def _key(self, caller: Caller, name: str, epochs: Sequence[int], question: Any) -> str:
        told = [caller.tenant, sorted(caller.masks), name, list(epochs), question]
        return f"fleet:crm:{self._epochs.space}:{digest_of(told)}"


def _records(fields: Sequence[FieldDef], ids: Sequence[UUID]) -> Any:
    return [[field.name for field in fields], sorted(map(str, ids))]
