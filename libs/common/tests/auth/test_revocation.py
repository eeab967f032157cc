"""Tokens that were closed early: seen by every process, kept while Redis is away."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from fleet_cli.engines.freeport import free_port
from fleet_common.auth.claims import VerifiedClaims
from fleet_common.auth.revocation import Revocations
from fleet_common.errors import Unavailable
from fleet_common.redis import Redis, create_redis
from fleet_common.testing import wait_until


@dataclass
class Shared:
    redis: Redis
    key: str


@pytest.fixture
def shared(redis: Redis) -> Shared:
    return Shared(redis, f"test:revoked:{uuid4().hex}")


def token(**changed: Any) -> VerifiedClaims:
    facts: dict[str, Any] = {
        "subject": "ada",
        "tenant": "acme",
        "roles": frozenset[str](),
        "scopes": frozenset[str](),
        "audiences": frozenset({"x"}),
        "token_id": "t1",
        "issued_at": int(time.time()) - 10,
        "expires_at": int(time.time()) + 60,
    }
    return VerifiedClaims(**(facts | changed))


async def seen(copy: Revocations, claims: VerifiedClaims) -> bool:
    try:
        return copy.covers(claims)
    except Unavailable:
        return False


async def test_a_revoked_token_is_refused_by_another_process(shared: Shared) -> None:
    here, elsewhere = (
        Revocations(shared.redis, key=shared.key),
        Revocations(shared.redis, key=shared.key, copy_s=0.02),
    )
    async with elsewhere.watched():
        await here.revoke_token("t1")
        await wait_until(lambda: seen(elsewhere, token()))
        assert not elsewhere.covers(token(token_id="t2"))
        assert not elsewhere.covers(token(token_id=None))


async def test_a_revoked_subject_may_sign_in_again(shared: Shared) -> None:
    revocations = Revocations(shared.redis, key=shared.key, copy_s=0.02)
    async with revocations.watched():
        await revocations.revoke_subject("ada")
        await wait_until(lambda: seen(revocations, token()))
        assert not revocations.covers(token(issued_at=int(time.time()) + 1))
        assert not revocations.covers(token(subject="bob"))


async def test_what_expired_long_ago_is_forgotten(shared: Shared) -> None:
    old = Revocations(shared.redis, key=shared.key, now=lambda: time.time() - 31 * 86_400)
    await old.revoke_token("t0")
    await Revocations(shared.redis, key=shared.key).revoke_token("t1")
    assert await shared.redis.hkeys(shared.key) == [b"jti:t1"]


async def test_without_a_first_copy_no_token_is_trusted() -> None:
    redis = await asyncio.to_thread(create_redis, f"redis://127.0.0.1:{free_port()}/0")
    revocations = Revocations(redis, copy_s=0.02)
    async with revocations.watched():
        with pytest.raises(Unavailable, match="list of revoked tokens"):
            revocations.covers(token())
        with pytest.raises(Unavailable, match="Redis"):
            await revocations.revoke_token("t1")
    await redis.aclose(close_connection_pool=True)


async def test_the_last_copy_holds_while_redis_is_away(shared: Shared) -> None:
    revocations = Revocations(shared.redis, key=shared.key, copy_s=0.02)
    await revocations.revoke_token("t1")
    async with revocations.watched():
        await wait_until(lambda: seen(revocations, token()))
        await shared.redis.delete(shared.key)
        await shared.redis.set(shared.key, "no hash any more")  # every read fails from here on
        await wait_until(lambda: _warned(revocations))
        assert revocations.covers(token())
        assert not revocations.covers(token(token_id="t2"))
    await shared.redis.delete(shared.key)


async def _warned(revocations: Revocations) -> bool:
    return revocations._is_away


async def test_somebody_else_s_text_on_the_list_does_no_harm(shared: Shared) -> None:
    revocations = Revocations(shared.redis, key=shared.key, copy_s=0.02)
    await revocations.revoke_token("t1")
    async with revocations.watched():
        await wait_until(lambda: seen(revocations, token()))
        await shared.redis.hset(shared.key, b"\xff", "soon")
        await wait_until(lambda: _warned(revocations))
        assert revocations.covers(token())


async def test_where_nothing_is_shared_nothing_is_revoked() -> None:
    revocations = Revocations(None)
    async with revocations.watched():
        assert not revocations.covers(token())
        with pytest.raises(Unavailable, match="Redis"):
            await revocations.revoke_subject("ada")
