"""The desk: asks that wait in Redis until a person decides, for clients that cannot show a question themselves.

A request lives under a key made from what it is bound to, so a repeated call finds its own request and no other.
Each step is one Lua script: of any number of repeated calls, on any replica, exactly one takes an approval.
Nothing outlives its five minutes, and Redis being away is a refusal.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, cast

from fleet_common.approvals.models import LIFETIME, Approver, Ask, Request, Verdict
from fleet_common.errors import Conflict, NotFound, PermissionDenied, Unavailable
from fleet_common.redis import REDIS_AWAY, Redis

_LIFE_MS = int(LIFETIME.total_seconds() * 1000)

# KEYS: request, index of the tenant. ARGV: id, request as JSON, life in ms, expiry as Unix time.
_CLAIM = """
local state = redis.call('HGET', KEYS[1], 'state')
if state == 'approved' then
    local approver = redis.call('HGET', KEYS[1], 'approver')
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
    return {state, approver}
end
if not state then
    state = 'pending'
    redis.call('HSET', KEYS[1], 'state', state, 'request', ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return {state, redis.call('HGET', KEYS[1], 'request')}
"""
# KEYS: request. ARGV: the request as it was shown, verdict, approver.
_DECIDE = """
if redis.call('HGET', KEYS[1], 'request') ~= ARGV[1] then return 'gone' end
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'pending' then return state end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'approver', ARGV[3])
return 'done'
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a call found at the desk.

    Attributes:
        verdict: None while the request waits. "approved" is said once and uses the approval up.
        approver: subject of who approved.
        request: the request that waits or was denied; None when it was approved.
    """

    verdict: Verdict | None
    approver: str | None
    request: Request | None


class Desk:
    """Requests of all tenants; whoever looks or decides does so within its own tenant."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def claim(self, ask: Ask, *, second_person: bool) -> Claim:
        """Take the approval that was given for `ask`; else leave the ask here, unless it is here already.

        Raises:
            Unavailable: Redis is away.
        """
        fresh = _request(ask, second_person=second_person)
        expires = int(fresh.expires_at.timestamp())
        state, told = await self._run(
            _CLAIM,
            [_key(ask.tenant, fresh.id), _index(ask.tenant)],
            [fresh.id, _dump(fresh), _LIFE_MS, expires],
        )
        if state == b"approved":
            return Claim("approved", told.decode(), None)
        return Claim("denied" if state == b"denied" else None, None, _load(told))

    async def waiting(self, tenant: str) -> list[Request]:
        """Return what waits for a decision in `tenant`, what expires first first.

        Raises:
            Unavailable: Redis is away.
        """
        try:
            await self._redis.zremrangebyscore(_index(tenant), 0, datetime.now(UTC).timestamp())
            # Any: redis-py's type of an answer covers every option of the command.
            ids: list[Any] = await self._redis.zrange(_index(tenant), 0, -1)
            found = [await self.find(tenant, each.decode()) for each in ids]
        except REDIS_AWAY as exc:
            raise Unavailable("the approval store") from exc
        return [request for request in found if request is not None]

    async def find(self, tenant: str, id_: str) -> Request | None:
        """Return the request that waits in `tenant` under this id, or None.

        Raises:
            Unavailable: Redis is away.
        """
        try:
            reading = self._redis.hmget(_key(tenant, id_), ["state", "request"])
            # redis-py types an answer as maybe not awaitable, for its synchronous twin.
            state, told = await cast(Awaitable[list[bytes | None]], reading)
        except REDIS_AWAY as exc:
            raise Unavailable("the approval store") from exc
        return _load(told) if told is not None and state == b"pending" else None

    async def decide(self, request: Request, approver: Approver, verdict: Verdict) -> None:
        """Record a person's decision on exactly what they were shown.

        Raises:
            NotFound: it expired, was used, is of another tenant, or asks for something else by now.
            PermissionDenied: a second person is needed and `approver` is the one who asked.
            Conflict: it was decided already.
            Unavailable: Redis is away.
        """
        if approver.tenant != request.tenant:
            raise NotFound("approval", request.id)
        if request.second_person and approver.subject == request.subject:
            raise PermissionDenied("somebody other than the one who asked must decide this")
        keys = [_key(request.tenant, request.id)]
        answer = await self._run(_DECIDE, keys, [_dump(request), verdict, approver.subject])
        if answer == b"gone":
            raise NotFound("approval", request.id)
        if answer != b"done":
            raise Conflict(f"this was {answer.decode()} already")

    async def _run(self, script: str, keys: list[str], args: list[Any]) -> Any:
        try:
            return await self._redis.eval(script, len(keys), *keys, *map(str, args))
        except REDIS_AWAY as exc:
            raise Unavailable("the approval store") from exc


def _request(ask: Ask, *, second_person: bool) -> Request:
    return Request(
        id=ask.id,
        nonce=secrets.token_hex(8),
        tenant=ask.tenant,
        subject=ask.subject,
        tool=ask.tool,
        lines=tuple(ask.plan.lines()),
        second_person=second_person,
        expires_at=datetime.now(UTC) + LIFETIME,
    )


def _dump(request: Request) -> str:
    return json.dumps({**asdict(request), "expires_at": request.expires_at.isoformat()})


def _load(told: bytes) -> Request:
    facts = json.loads(told)
    facts["lines"] = tuple(facts["lines"])
    facts["expires_at"] = datetime.fromisoformat(facts["expires_at"])
    return Request(**facts)


def _key(tenant: str, id_: str) -> str:
    # The braces put all keys of a tenant into one slot of a Redis Cluster, as a script needs.
    return f"fleet:approval:{{{tenant}}}:{id_}"


def _index(tenant: str) -> str:
    return f"fleet:approvals:{{{tenant}}}"
