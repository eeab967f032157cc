"""Seals: one call, one use, five minutes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleet_cli.engines.freeport import free_port
from fleet_common.approvals import Ask, Plan
from fleet_common.approvals.seals import LocalNonces, RedisNonces, Seals
from fleet_common.clock import ManualClock
from fleet_common.errors import ApprovalInvalid, Unavailable
from fleet_common.redis import create_redis

KEY = b"k" * 32
ASK = Ask("demo", "key:1", "note_delete", "a" * 64, Plan("Delete note 1", object_version="3"))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000)


@pytest.fixture
def seals(clock: ManualClock) -> Seals:
    return Seals(KEY, LocalNonces(clock), now=clock)


async def test_a_seal_is_good_once(seals: Seals) -> None:
    seal = seals.issue(ASK, "two_step")
    await seals.redeem(seal, ASK, "two_step")
    with pytest.raises(ApprovalInvalid, match="it has been used"):
        await seals.redeem(seal, ASK, "two_step")


@pytest.mark.parametrize(
    "other",
    [
        replace(ASK, tenant="other"),
        replace(ASK, subject="key:2"),
        replace(ASK, tool="note_purge"),
        replace(ASK, arguments_sha256="b" * 64),
        replace(ASK, plan=Plan("Delete note 1", object_version="4")),
    ],
)
async def test_a_seal_is_for_one_call(seals: Seals, other: Ask) -> None:
    seal = seals.issue(ASK, "two_step")
    with pytest.raises(ApprovalInvalid, match="another call"):
        await seals.redeem(seal, other, "two_step")
    await seals.redeem(seal, ASK, "two_step")


async def test_a_token_is_no_answer(seals: Seals) -> None:
    with pytest.raises(ApprovalInvalid):
        await seals.redeem(seals.issue(ASK, "two_step"), ASK, "answer")


async def test_a_seal_of_another_key_is_refused(seals: Seals, clock: ManualClock) -> None:
    other = Seals(b"x" * 32, LocalNonces(clock), now=clock)
    with pytest.raises(ApprovalInvalid):
        await seals.redeem(other.issue(ASK, "two_step"), ASK, "two_step")


@pytest.mark.parametrize(
    "forged", ["", ".", "..", "9999999999.n.", "9999999999.n.00", "é.ü.\ud800"]
)
async def test_nonsense_is_refused(seals: Seals, forged: str) -> None:
    with pytest.raises(ApprovalInvalid):
        await seals.redeem(forged, ASK, "two_step")


async def test_a_longer_life_cannot_be_written_in(seals: Seals) -> None:
    expires, rest = seals.issue(ASK, "two_step").split(".", 1)
    with pytest.raises(ApprovalInvalid):
        await seals.redeem(f"{int(expires) + 60}.{rest}", ASK, "two_step")


async def test_a_seal_expires_after_five_minutes(seals: Seals, clock: ManualClock) -> None:
    last, late = seals.issue(ASK, "two_step"), seals.issue(ASK, "two_step")
    clock.advance(299)
    await seals.redeem(last, ASK, "two_step")
    clock.advance(1)
    with pytest.raises(ApprovalInvalid, match="expired"):
        await seals.redeem(late, ASK, "two_step")


async def test_a_used_seal_is_remembered_longer_than_it_lives(clock: ManualClock) -> None:
    spent = LocalNonces(clock)
    assert await spent.spend("n")
    clock.advance(301)
    assert not await spent.spend("n")


async def test_replicas_know_of_each_others_used_seals(redis_url: str) -> None:
    one, two = create_redis(redis_url, timeout_s=8), create_redis(redis_url, timeout_s=8)
    seal = Seals(KEY, RedisNonces(one)).issue(ASK, "two_step")
    await Seals(KEY, RedisNonces(one)).redeem(seal, ASK, "two_step")
    with pytest.raises(ApprovalInvalid, match="used"):
        await Seals(KEY, RedisNonces(two)).redeem(seal, ASK, "two_step")
    await one.aclose(close_connection_pool=True)
    await two.aclose(close_connection_pool=True)


async def test_redis_away_is_a_refusal() -> None:
    redis = create_redis(f"redis://127.0.0.1:{free_port()}/0")
    seals = Seals(KEY, RedisNonces(redis))
    with pytest.raises(Unavailable):
        await seals.redeem(seals.issue(ASK, "two_step"), ASK, "two_step")
    await redis.aclose(close_connection_pool=True)
