from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fleet_common.auth import Principal
from fleet_common.clock import ManualClock
from fleet_common.errors import Unavailable
from fleet_common.policy import BUILT_IN, PolicyFile
from fleet_common.testing.principals import principal, viewer
from fleet_gateway.lists.cache import ListCache
from fleet_gateway.lists.models import Page, row_of


class Service:
    """A source that shows each scope one row of its own, and can be slow or away."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = 0
        self.is_away = False
        self.edition = 1
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, method: str, who: Principal) -> Page:
        self.asked += 1
        await self.open.wait()
        if self.is_away:
            raise Unavailable(f"the {self.name} service")
        content = {"name": f"{self.name}_{method}", "scope": scope_of(who), "edition": self.edition}
        return Page((row_of(content),), ttl_s=60, version="1")


def scope_of(who: Principal) -> list[Any]:
    return [who.tenant, sorted(who.roles), None if who.scopes is None else sorted(who.scopes)]


class World:
    def __init__(self) -> None:
        self.clock = ManualClock(1000.0)
        self.policy = PolicyFile.fixed(BUILT_IN)
        self.services = {name: Service(name) for name in ("data", "aiml")}
        self.cache = ListCache(
            self.services,
            self.policy,
            is_offered=lambda _source, _method, row: b"forbidden" not in row.encoded,
            timeout_s=0.2,
            clock=self.clock,
        )

    async def get(
        self, who: Principal | None = None, method: str = "tools/list"
    ) -> list[dict[str, Any]]:
        return [row.parsed() for row in (await self.cache.get(method, who or viewer())).rows]

    @property
    def asked(self) -> int:
        return self.services["data"].asked


@asynccontextmanager
async def opened() -> AsyncGenerator[World]:
    world = World()
    async with world.cache.opened():
        yield world


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_callers_that_come_together_share_one_look() -> None:
    async with opened() as world:
        await asyncio.gather(*(world.get() for _ in range(20)))
        assert world.asked == 1


async def test_a_caller_that_leaves_does_not_spoil_the_look_for_the_others() -> None:
    async with opened() as world:
        world.services["data"].open.clear()
        first, second = (asyncio.create_task(world.get()) for _ in range(2))
        await settle()
        first.cancel()
        world.services["data"].open.set()
        assert len(await second) == 2


async def test_a_list_older_than_five_seconds_is_given_at_once_and_renewed_behind_it() -> None:
    async with opened() as world:
        await world.get()
        world.services["data"].edition = 2
        world.clock.advance(4.9)
        assert (await world.get())[0]["edition"] == 1
        await settle()
        assert world.asked == 1
        world.clock.advance(0.2)
        assert (await world.get())[0]["edition"] == 1
        await settle()
        assert (await world.get())[0]["edition"] == 2
        assert world.asked == 2


async def test_after_five_minutes_the_next_caller_waits_for_a_new_list() -> None:
    async with opened() as world:
        await world.get()
        world.services["data"].edition = 2
        world.clock.advance(300)
        assert (await world.get())[0]["edition"] == 2


async def test_after_a_known_change_the_next_list_is_the_new_one() -> None:
    async with opened() as world:
        await world.get()
        world.services["data"].edition = 2
        world.cache.expire()
        assert {row["edition"] for row in await world.get() if "data" in row["name"]} == {2}
        await world.get()
        await settle()
        assert world.asked == 2


async def test_a_list_that_was_asked_for_before_a_change_is_asked_for_again() -> None:
    async with opened() as world:
        world.services["data"].open.clear()
        asking = asyncio.create_task(world.get())
        await settle()
        world.cache.expire()
        world.services["data"].open.set()
        await asking
        assert world.asked == 2


@pytest.mark.parametrize("how", ["away", "slow"])
async def test_a_service_that_does_not_answer_keeps_its_last_rows_and_the_list_is_not_fresh(
    how: str,
) -> None:
    async with opened() as world:
        before = await world.get()
        if how == "away":
            world.services["data"].is_away = True
        else:
            world.services["data"].open.clear()
        world.clock.advance(300)
        merged = await world.cache.get("tools/list", viewer())
        assert [row.parsed() for row in merged.rows] == before
        assert merged.ttl_ms(world.clock()) == 0


async def test_the_time_to_live_is_the_services_own_less_the_lists_age() -> None:
    async with opened() as world:
        merged = await world.cache.get("tools/list", viewer())
        assert merged.ttl_ms(world.clock()) == 60_000
        world.clock.advance(4)
        assert merged.ttl_ms(world.clock()) == 56_000


async def test_a_new_policy_forgets_every_list_even_one_that_is_being_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened() as world:
        await world.get()
        world.services["data"].open.clear()
        world.clock.advance(6)
        await world.get()
        await settle()
        other = PolicyFile.fixed(BUILT_IN.model_copy())
        monkeypatch.setattr(world.policy, "_in_force", other._in_force)
        world.services["data"].open.set()
        world.services["data"].edition = 2
        assert (await world.get())[0]["edition"] == 2
        await settle()
        assert (await world.get())[0]["edition"] == 2


async def test_a_look_that_breaks_fails_its_caller_and_ends_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened() as world:
        with monkeypatch.context() as broken:
            broken.setattr(world.services["data"], "open", None)
            with pytest.raises(ExceptionGroup):
                await world.get()
        assert len(await world.get()) == 2
    assert "list_failed" in capsys.readouterr().err


async def test_rows_that_are_not_offered_are_left_out() -> None:
    async with opened() as world:
        who = principal("viewer", tenant="forbidden")
        assert await world.get(who) == []


async def test_a_closed_cache_says_so() -> None:
    world = World()
    with pytest.raises(Unavailable):
        await world.cache.get("tools/list", viewer())


NAMES = st.sampled_from(["a", "b"])
CALLERS = st.builds(
    Principal,
    subject=st.sampled_from(["x", "y"]),
    tenant=NAMES,
    roles=st.frozensets(NAMES),
    kind=st.just("key"),
    scopes=st.none() | st.frozensets(NAMES),
)
STEPS = st.lists(
    st.tuples(
        CALLERS,
        st.sampled_from(["tools/list", "prompts/list"]),
        st.sampled_from([0, 1, 6, 301]),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_no_caller_ever_sees_a_byte_of_another_scope(
    steps: list[tuple[Principal, str, int, bool]],
) -> None:
    async def scenario() -> None:
        async with opened() as world:
            for who, method, seconds, is_away in steps:
                world.clock.advance(seconds)
                world.services["data"].is_away = is_away
                for row in await world.get(who, method):
                    assert row["scope"] == scope_of(who)
                    assert row["name"].endswith(method)

    asyncio.run(scenario())
