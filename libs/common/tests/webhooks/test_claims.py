from __future__ import annotations

import asyncio
import sys
from uuid import uuid4

import pytest

from fleet_common.redis import REDIS_AWAY, Redis, create_redis
from fleet_common.testing import wait_until
from fleet_common.webhooks import ClaimHeld, Claims, Delivery


def delivery(body: bytes = b"{}", name: str | None = "d1") -> Delivery:
    return Delivery("github", name, {}, body)


@pytest.fixture
def service() -> str:
    return f"test-{uuid4().hex}"


@pytest.fixture
def claims(redis: Redis, service: str) -> Claims:
    return Claims(redis, service)


async def test_a_committed_delivery_is_never_claimed_again(claims: Claims) -> None:
    claim = await claims.claim(delivery(), 5)
    assert claim is not None
    await claims.commit(claim)
    assert await claims.claim(delivery(), 5) is None


@pytest.mark.parametrize("again", [delivery(b"other"), delivery(name="d2"), delivery(name=None)])
async def test_the_id_or_the_body_alone_is_enough_to_know_it_again(
    claims: Claims, again: Delivery
) -> None:
    claim = await claims.claim(delivery(), 5)
    assert claim is not None
    with pytest.raises(ClaimHeld):
        await claims.claim(again, 5)
    await claims.commit(claim)
    assert await claims.claim(again, 5) is None


async def test_a_released_delivery_can_be_claimed_at_once(claims: Claims) -> None:
    claim = await claims.claim(delivery(), 60)
    assert claim is not None
    await claims.release(claim)
    assert await claims.claim(delivery(), 5) is not None


async def test_who_comes_back_after_its_claim_expired_changes_nothing(claims: Claims) -> None:
    late = await claims.claim(delivery(), 5)
    assert late is not None
    await claims.release(late)
    current = await claims.claim(delivery(), 60)
    assert current is not None
    await claims.release(late)
    await claims.commit(late)
    with pytest.raises(ClaimHeld):
        await claims.claim(delivery(), 5)


async def test_services_and_providers_do_not_share_deliveries(redis: Redis, service: str) -> None:
    assert await Claims(redis, service).claim(delivery(), 5) is not None
    assert await Claims(redis, f"{service}-other").claim(delivery(), 5) is not None
    slack = Delivery("slack", "d1", {}, b"{}")
    assert await Claims(redis, service).claim(slack, 5) is not None


async def test_redis_away_is_one_of_the_named_errors(unused_tcp_port: int) -> None:
    redis = create_redis(f"redis://127.0.0.1:{unused_tcp_port}/0")
    with pytest.raises(REDIS_AWAY):
        await Claims(redis, "test").claim(delivery(), 5)
    await redis.aclose(close_connection_pool=True)


CLAIM_MANY = """
import asyncio, sys
from fleet_common.redis import create_redis
from fleet_common.webhooks import ClaimHeld, Claims, Delivery

async def main(url, service):
    redis = create_redis(url)
    claims = Claims(redis, service)
    async def attempt():
        try:
            return await claims.claim(Delivery("github", "d1", {}, b"{}"), 60) is not None
        except ClaimHeld:
            return False
    await redis.ping()
    print("ready", flush=True)
    sys.stdin.readline()
    won = await asyncio.gather(*(attempt() for _ in range(50)))
    print(sum(won), flush=True)
    await redis.aclose(close_connection_pool=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.timeout(40)  # two interpreters start
async def test_of_many_parallel_claims_in_two_processes_one_wins(
    redis_url: str, service: str
) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLAIM_MANY, redis_url, service,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert sum(int(output) for output, _ in outputs) == 1


CLAIM_AND_HANG = """
import asyncio, sys
from fleet_common.redis import create_redis
from fleet_common.webhooks import Claims, Delivery

async def main(url, service):
    claims = Claims(create_redis(url), service)
    await claims.claim(Delivery("github", "d1", {}, b"{}"), 1.5)
    print("claimed", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.timeout(40)  # an interpreter starts
async def test_after_kill_9_in_the_middle_of_the_work_a_repeat_is_worked_on(
    redis_url: str, service: str, claims: Claims
) -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLAIM_AND_HANG, redis_url, service, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    assert await worker.stdout.readline() == b"claimed\n"
    with pytest.raises(ClaimHeld):
        await claims.claim(delivery(), 5)
    worker.kill()
    await worker.wait()

    async def is_free() -> bool:
        try:
            return await claims.claim(delivery(), 60) is not None
        except ClaimHeld:
            return False

    await wait_until(is_free)
