"""Once each: a delivery is claimed before the work, and committed or released after it.

Two names stand for a delivery, its id and its body, and either one is enough to know it again. A claim expires by
itself, so that a delivery whose process died is done when the sender repeats it. A commit is remembered for a
week: Stripe repeats for three days, and a recorded GitHub delivery carries no time that would make it stale.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from fleet_common.errors import Conflict
from fleet_common.redis import Redis
from fleet_common.webhooks.models import Delivery

DONE_S = 7 * 24 * 3600

_CLAIM = """
for _, key in ipairs(KEYS) do
    local held = redis.call('GET', key)
    if held == 'done' then return 'done' end
    if held then return 'held' end
end
for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
return 'mine'
"""
# Only what is still ours: after an expiry it may be somebody else's.
_SETTLE = """
for _, key in ipairs(KEYS) do
    if redis.call('GET', key) == ARGV[1] then
        if ARGV[2] == '0' then redis.call('DEL', key)
        else redis.call('SET', key, 'done', 'PX', ARGV[2]) end
    end
end
"""


class ClaimHeld(Conflict):
    """Raised when another process is at work on the same delivery; it may fail, so the sender should repeat."""

    retryable = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("this delivery is being worked on", retry_after_s=retry_after_s)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on one delivery, for a while."""

    keys: tuple[str, ...]
    token: str


class Claims:
    """What replicas know of each other's deliveries; every method raises `REDIS_AWAY` while Redis is away."""

    def __init__(self, redis: Redis, service: str) -> None:
        self._redis = redis
        self._service = service
        self._claim = redis.register_script(_CLAIM)
        self._settle = redis.register_script(_SETTLE)

    async def claim(self, delivery: Delivery, lifetime_s: float) -> Claim | None:
        """Return the claim to a delivery, or None when it was done before.

        Raises:
            ClaimHeld: another process has it.
        """
        claim = Claim(self._keys(delivery), secrets.token_hex(8))
        # Any: a script answers with whatever it returns.
        state: Any = await self._claim(keys=claim.keys, args=[claim.token, int(lifetime_s * 1000)])
        if state == b"held":
            raise ClaimHeld(retry_after_s=lifetime_s)
        return claim if state == b"mine" else None

    async def commit(self, claim: Claim) -> None:
        """Remember that the delivery is done."""
        await self._settle(keys=claim.keys, args=[claim.token, DONE_S * 1000])

    async def release(self, claim: Claim) -> None:
        """Forget the claim, so that the sender's repeat is worked on at once."""
        await self._settle(keys=claim.keys, args=[claim.token, 0])

    def _keys(self, delivery: Delivery) -> tuple[str, ...]:
        # The braces keep both on one node of a cluster.
        prefix = f"fleet:webhooks:{{{self._service}:{delivery.provider}}}"
        names = {"body": delivery.body}
        if delivery.id is not None:
            names["id"] = delivery.id.encode()
        return tuple(f"{prefix}:{kind}:{_digest(value)}" for kind, value in names.items())


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()
