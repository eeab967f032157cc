"""Epochs: per tenant and object a number in Redis that grows with every change.

It is part of every key, so one increment makes all answers from before unreachable, for all replicas. An increment that
could not be made, since Redis was away, is made up for before the cache is used again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from fleet_common.digests import digest_of
from fleet_common.redis import REDIS_AWAY, Redis

_DAY_S = 24 * 3600


def space_of(database_url: str) -> str:
    """Return what tells one database from another in a Redis that they share; no password is in it."""
    where = urlsplit(database_url)
    return digest_of([where.hostname, where.port, where.path])[:16]


class Epochs:
    """The epochs of all tenants of one database.

    Attributes:
        space: see `space_of`.
        is_fed: changes made elsewhere arrive; without that nothing kept can be trusted.
    """

    def __init__(self, redis: Redis | None, space: str) -> None:
        self.space = space
        self._redis = redis
        self._owed: set[tuple[str, str]] = set()
        self.is_fed = False

    async def read(self, tenant: str, objects: Sequence[str]) -> list[int] | None:
        """Return the epochs, in order; None when the cache must not be used now."""
        if self._redis is None or not self.is_fed:
            return None
        await self.advance(())
        if self._owed:
            return None
        try:
            values = await self._redis.hmget(self._key(tenant), list(objects))
        except REDIS_AWAY:
            return None
        return [int(value or 0) for value in values]

    async def advance(self, changed: Iterable[tuple[str, str]]) -> None:
        """Begin a new epoch for each (tenant, object), and for those that are still owed one."""
        if self._redis is None:
            return
        due = self._owed | set(changed)
        if not due:
            return
        self._owed = due
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for tenant, name in due:
                    pipe.hincrby(self._key(tenant), name, 1)
                    pipe.expire(self._key(tenant), _DAY_S)
                await pipe.execute()
        except REDIS_AWAY:
            return
        self._owed = self._owed - due

    def _key(self, tenant: str) -> str:
        return f"fleet:crm:{self.space}:epochs:{tenant}"
