"""Tokens that stop working before they expire: a list in Redis, copied into every process every two seconds.

A verified token is trusted for up to a minute and a JWT is valid without its issuer, so the list is what ends one
early. While Redis is away the last copy holds; a process that never had one trusts no token until it does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog

from fleet_common.auth.claims import VerifiedClaims
from fleet_common.errors import Unavailable
from fleet_common.redis import REDIS_AWAY, Redis

log = structlog.get_logger()

KEY = "fleet:tokens:revoked"
_COPY_S = 2.0
_KEPT_S = 30 * 86_400  # longer than any access token should live


class Revocations:
    """The list of revoked token ids and subjects."""

    def __init__(
        self,
        redis: Redis | None,
        *,
        key: str = KEY,
        copy_s: float = _COPY_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._key = key
        self._copy_s = copy_s
        self._now = now
        self._is_away = False
        # Revoked when, by entry. None: never read. Without a Redis there is nobody who could revoke.
        self._revoked: dict[str, float] | None = {} if redis is None else None

    def covers(self, claims: VerifiedClaims) -> bool:
        """Return whether the token was revoked, or its subject after the token was issued.

        Raises:
            Unavailable: the list was never read.
        """
        if self._revoked is None:
            raise Unavailable("the list of revoked tokens")
        if claims.token_id is not None and f"jti:{claims.token_id}" in self._revoked:
            return True
        return self.covers_subject(claims.subject, claims.issued_at)

    def covers_subject(self, subject: str, since: float) -> bool:
        """Return whether the tokens that `subject` had at `since` (Unix seconds) were revoked afterwards.

        Raises:
            Unavailable: the list was never read.
        """
        if self._revoked is None:
            raise Unavailable("the list of revoked tokens")
        return since <= self._revoked.get(f"sub:{subject}", -1)

    async def revoke_token(self, token_id: str) -> None:
        """Close the token with this `jti`, everywhere, within seconds.

        Raises:
            Unavailable: Redis is away or there is none.
        """
        await self._add(f"jti:{token_id}")

    async def revoke_subject(self, subject: str) -> None:
        """Close every token of a subject that was issued until now; later ones work.

        Raises:
            Unavailable: Redis is away or there is none.
        """
        await self._add(f"sub:{subject}")

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """Keep the copy fresh while the block runs."""
        if self._redis is None:
            yield
            return
        async with asyncio.TaskGroup() as group:
            copying = group.create_task(self._copy_on(self._redis), name="revoked-tokens")
            try:
                yield
            finally:
                copying.cancel()

    async def _copy_on(self, redis: Redis) -> None:
        while True:
            await self._copy(redis)
            await asyncio.sleep(self._copy_s)

    async def _copy(self, redis: Redis) -> None:
        try:
            # Any: redis-py's type leaves open whether answers are bytes; ours are.
            rows: dict[Any, Any] = await redis.hgetall(self._key)
            revoked = {name.decode(): float(at) for name, at in rows.items()}
        except (*REDIS_AWAY, ValueError) as exc:  # or somebody else's text under our key
            if not self._is_away:
                log.warning("revocations_not_read", error=type(exc).__name__)
            self._is_away = True
            return
        self._is_away = False
        self._revoked = revoked

    async def _add(self, entry: str) -> None:
        if self._redis is None:
            raise Unavailable("Redis", retry_after_s=None)
        try:
            rows = await self._redis.hgetall(self._key)
            old = [name for name, at in rows.items() if float(at) < self._now() - _KEPT_S]
            await self._redis.hset(self._key, entry, str(self._now()))
            if old:
                await self._redis.hdel(self._key, *old)
        except REDIS_AWAY as exc:
            raise Unavailable("Redis", retry_after_s=None) from exc
