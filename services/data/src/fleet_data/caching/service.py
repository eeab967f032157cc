"""What can be done with the cache: look at it and empty it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from fleet_data.caching.epochs import Epochs
from fleet_data.caching.models import Invalidated, Looked, Stats
from fleet_data.caching.store import CachedStore
from fleet_data.claims import Caller
from fleet_data.crm.objects import OBJECTS


class Records:
    """The kept records of every tenant; each call says whose."""

    def __init__(self, store: CachedStore, epochs: Epochs) -> None:
        self._store = store
        self._epochs = epochs

    async def lookup(self, caller: Caller, name: str, ids: Sequence[UUID]) -> Looked:
        """Return whether crm_get of all fields of these records would be answered from the cache."""
        of = OBJECTS[name]
        if of.is_extensible:
            of = of.extended([each.field for each in await self._store.properties(caller, name)])
        left = await self._store.life_of(caller, of, tuple(of.fields.values()), ids)
        return Looked(left is not None, None if left is None else left.total_seconds())

    async def stats(self, caller: Caller) -> Stats:
        """Return how the cache does."""
        found = await self._epochs.read(caller.tenant, list(OBJECTS))
        epochs = {} if found is None else dict(zip(OBJECTS, found, strict=True))
        return Stats(found is not None, self._store.hits, self._store.misses, epochs)

    async def invalidate(self, caller: Caller, name: str | None) -> Invalidated:
        """Let nobody get an answer from before, about one object or about all."""
        names = [name] if name else list(OBJECTS)
        await self._epochs.advance((caller.tenant, each) for each in names)
        return Invalidated(names)
