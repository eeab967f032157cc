"""The desk: requests that wait in a real Valkey for a person."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from fleet_cli.engines.freeport import free_port
from fleet_common.approvals import Approver, Ask, Plan, Request
from fleet_common.approvals.desk import Desk
from fleet_common.errors import Conflict, NotFound, PermissionDenied, Unavailable
from fleet_common.redis import Redis, create_redis


@pytest.fixture
def desk(redis: Redis) -> Desk:
    return Desk(redis)


@pytest.fixture
def ask() -> Ask:
    """An ask in a tenant of this test's own."""
    plan = Plan("Delete note 1", {"Text": "hello"}, "3")
    return Ask(f"t{uuid4().hex[:8]}", "key:agent", "note_delete", "a" * 64, plan)


@pytest.fixture
def boss(ask: Ask) -> Approver:
    return Approver(ask.tenant, "key:boss")


async def waiting(desk: Desk, ask: Ask, *, second_person: bool = False) -> Request:
    """Return the request of `ask`, which nobody has decided."""
    claim = await desk.claim(ask, second_person=second_person)
    assert claim.verdict is None
    assert claim.request is not None
    return claim.request


async def test_a_repeated_ask_is_the_same_request(desk: Desk, ask: Ask) -> None:
    first = await waiting(desk, ask)
    assert await waiting(desk, ask) == first
    assert first.lines == ("Delete note 1", "Text: hello")
    assert 299 < first.remaining_s <= 300


async def test_what_waits_is_listed_and_found_in_its_tenant_only(desk: Desk, ask: Ask) -> None:
    first = await waiting(desk, ask)
    second = await waiting(desk, replace(ask, tool="note_purge"))
    assert set(await desk.waiting(ask.tenant)) == {first, second}
    assert await desk.find(ask.tenant, first.id) == first
    assert await desk.find("elsewhere", first.id) is None
    assert await desk.waiting(f"{ask.tenant}x") == []


async def test_an_approval_is_used_once(desk: Desk, ask: Ask, boss: Approver) -> None:
    await desk.decide(await waiting(desk, ask), boss, "approved")
    claims = await asyncio.gather(*(desk.claim(ask, second_person=False) for _ in range(50)))
    used = [claim for claim in claims if claim.verdict == "approved"]
    assert [claim.approver for claim in used] == ["key:boss"]


async def test_a_no_holds_until_it_expires(desk: Desk, ask: Ask, boss: Approver) -> None:
    await desk.decide(await waiting(desk, ask), boss, "denied")
    for _ in range(2):
        assert (await desk.claim(ask, second_person=False)).verdict == "denied"


async def test_what_was_decided_does_not_wait_any_more(
    desk: Desk, ask: Ask, boss: Approver
) -> None:
    request = await waiting(desk, ask)
    await desk.decide(request, boss, "approved")
    assert await desk.find(ask.tenant, request.id) is None
    assert await desk.waiting(ask.tenant) == []
    with pytest.raises(Conflict, match="approved already"):
        await desk.decide(request, boss, "denied")


async def test_people_of_another_tenant_see_nothing_to_decide(desk: Desk, ask: Ask) -> None:
    request = await waiting(desk, ask)
    stranger = Approver("elsewhere", "key:boss")
    with pytest.raises(NotFound):
        await desk.decide(request, stranger, "approved")
    assert await desk.find(ask.tenant, request.id) == request


async def test_who_asked_is_no_second_person(desk: Desk, ask: Ask, boss: Approver) -> None:
    request = await waiting(desk, ask, second_person=True)
    with pytest.raises(PermissionDenied, match="somebody other"):
        await desk.decide(request, replace(boss, subject=ask.subject), "approved")
    await desk.decide(request, boss, "approved")
    assert (await desk.claim(ask, second_person=True)).approver == "key:boss"


async def test_a_decision_is_about_what_was_shown(
    desk: Desk, ask: Ask, boss: Approver, redis: Redis
) -> None:
    shown = await waiting(desk, ask)
    await redis.delete(f"fleet:approval:{{{ask.tenant}}}:{shown.id}")  # as when it expires
    again = await waiting(desk, ask)
    assert again.id == shown.id
    with pytest.raises(NotFound):
        await desk.decide(shown, boss, "approved")


async def test_a_request_and_its_approval_end_after_five_minutes(
    desk: Desk, ask: Ask, boss: Approver, redis: Redis
) -> None:
    request = await waiting(desk, ask)
    key = f"fleet:approval:{{{ask.tenant}}}:{request.id}"
    assert 299_000 < await redis.pttl(key) <= 300_000
    await desk.decide(request, boss, "approved")
    assert 299_000 < await redis.pttl(key) <= 300_000
    await redis.pexpire(key, 1)
    await asyncio.sleep(0.01)
    assert (await desk.claim(ask, second_person=False)).verdict is None


async def test_redis_away_is_a_refusal(ask: Ask, boss: Approver) -> None:
    redis = create_redis(f"redis://127.0.0.1:{free_port()}/0")
    desk = Desk(redis)
    with pytest.raises(Unavailable):
        await desk.claim(ask, second_person=False)
    with pytest.raises(Unavailable):
        await desk.find(ask.tenant, "x")
    with pytest.raises(Unavailable):
        await desk.waiting(ask.tenant)
    await redis.aclose(close_connection_pool=True)
