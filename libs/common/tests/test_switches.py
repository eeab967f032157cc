"""The kill switch between an operator and processes, over a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fleet_cli.engines.freeport import free_port
from fleet_cli.engines.valkey import Valkey
from fleet_cli.processes import Child
from fleet_common.audit import AuditLog
from fleet_common.auth import Principal
from fleet_common.errors import Disabled, InvalidInput, Unavailable
from fleet_common.health import Health
from fleet_common.metrics import Metrics
from fleet_common.redis import Redis, create_redis
from fleet_common.switches import STREAM, Kind, Switchboard, Switches
from fleet_common.testing import principal, viewer, wait_until
from fleet_common.testing.audit import MemorySink


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis]:
    """A database of the server for this file alone: the switchboard has one name in each."""
    client = create_redis(redis_url.removesuffix("/0") + "/7", timeout_s=8)
    await client.delete(STREAM)
    yield client
    await client.delete(STREAM)
    await client.aclose(close_connection_pool=True)


@pytest.fixture
def board(redis: Redis) -> Switchboard:
    return Switchboard(redis)


class Process:
    """What one process knows."""

    def __init__(self, redis: Redis | None, service: str = "data") -> None:
        self.health = Health()
        self.sink = MemorySink()
        self.audit = AuditLog(self.sink, service=service)
        self.switches = Switches(
            redis, service, metrics=Metrics(service), health=self.health, audit=self.audit
        )
        self.health.watch(self.switches.checks())

    def refuses(self, who: Principal, tool: str | None = None) -> bool:
        try:
            self.switches.check(who, tool)
        except Disabled:
            return True
        return False

    async def will_refuse(self, who: Principal, tool: str | None = None) -> None:
        await wait_until(lambda: self._is(who, tool, refused=True))

    async def will_allow(self, who: Principal, tool: str | None = None) -> None:
        await wait_until(lambda: self._is(who, tool, refused=False))

    async def _is(self, who: Principal, tool: str | None, *, refused: bool) -> bool:
        return self.refuses(who, tool) is refused


@pytest.mark.parametrize(
    ("place", "hit", "missed"),
    [
        (("tenant", "acme"), principal(tenant="acme"), principal(tenant="demo")),
        (("key", "ab12cd34"), principal(subject="key:ab12cd34"), principal(subject="key:other")),
        (("key", "key:ab12cd34"), principal(subject="key:ab12cd34"), principal(subject="ab12")),
        (("key", "alice@x"), principal(subject="alice@x"), principal(subject="bob@x")),
    ],
)
async def test_a_caller_is_refused_while_it_is_switched_off(
    redis: Redis, board: Switchboard, place: tuple[Kind, str], hit: Principal, missed: Principal
) -> None:
    process = Process(redis)
    async with process.switches.followed():
        await board.disable(*place, by="ops", reason="leaked")
        await process.will_refuse(hit)
        assert not process.refuses(missed)
        await board.enable(*place, by="ops", reason="rotated")
        await process.will_allow(hit)


async def test_a_service_refuses_everybody_and_the_others_nobody(
    redis: Redis, board: Switchboard
) -> None:
    data, devops = Process(redis, "data"), Process(redis, "devops")
    async with data.switches.followed(), devops.switches.followed():
        await board.disable("service", "data", by="ops", reason="incident")
        await data.will_refuse(viewer())
    assert not devops.refuses(viewer())


async def test_a_glob_refuses_its_tools_and_lists_leave_them_out(
    redis: Redis, board: Switchboard
) -> None:
    process = Process(redis)
    await board.disable("tool", "crm_*", by="ops", reason="incident")
    async with process.switches.followed():
        assert process.refuses(viewer(), "crm_search")
        assert process.switches.hides("crm_search")
        assert not process.refuses(viewer(), "db_query")
        assert not process.switches.hides("db_query")
        assert not process.refuses(viewer())


async def test_the_reason_is_for_operators_only(redis: Redis, board: Switchboard) -> None:
    process = Process(redis)
    await board.disable("tool", "crm_*", by="ops", reason="leaks contacts of Initech")
    async with process.switches.followed():
        with pytest.raises(Disabled) as refused:
            process.switches.check(viewer(), "crm_search")
    assert "Initech" not in str(refused.value)
    assert not refused.value.retryable
    assert refused.value.http_status == 403


async def test_the_board_says_who_switched_what_when_and_why(board: Switchboard) -> None:
    await board.disable("tool", "crm_*", by="ann", reason="first")
    await board.disable("tenant", "acme", by="bob", reason="second")
    await board.disable("tool", "crm_*", by="cy", reason="again")
    await board.enable("tenant", "acme", by="dan", reason="over")
    (off,) = await board.disabled()
    history = [(each.by, each.is_off, each.reason) for each in await board.history()]
    assert (off.kind, off.name, off.by, off.reason) == ("tool", "crm_*", "cy", "again")
    assert history == [
        ("ann", True, "first"),
        ("bob", True, "second"),
        ("cy", True, "again"),
        ("dan", False, "over"),
    ]


async def test_each_process_audits_what_takes_effect_in_it(
    redis: Redis, board: Switchboard
) -> None:
    await board.disable("tenant", "old", by="ann", reason="before the start")
    process = Process(redis)
    async with process.audit.opened(), process.switches.followed():
        await board.disable("tenant", "acme", by="bob", reason="incident 7")
        await process.will_refuse(principal(tenant="acme"))
        await board.enable("tenant", "acme", by="cy", reason="over")
        await process.will_allow(principal(tenant="acme"))
    told = [
        (event["decision"], event["target"], event["subject"], event["rule"])
        for event in process.sink.events
    ]
    assert told == [
        ("disable", "tenant acme", "bob", "incident 7"),
        ("enable", "tenant acme", "cy", "over"),
    ]


async def test_a_switch_needs_a_name_and_a_reason(board: Switchboard) -> None:
    for name, reason in (("", "why"), ("crm_*", "  ")):
        with pytest.raises(InvalidInput):
            await board.disable("tool", name, by="ops", reason=reason)
    assert await board.history() == []


async def test_switching_on_says_whether_it_was_off(board: Switchboard) -> None:
    await board.disable("tool", "crm_*", by="ops", reason="incident")
    for name, was_off in (("crm_search", False), ("crm_*", True), ("crm_*", False)):
        assert await board.enable("tool", name, by="ops", reason="over") is was_off


async def test_a_long_history_is_read_to_its_end(redis: Redis, board: Switchboard) -> None:
    pipeline = redis.pipeline()
    for number in range(2500):
        fields = {"kind": "tenant", "name": f"t{number}", "turned": "off", "by": "x", "reason": "y"}
        pipeline.xadd(STREAM, fields)  # type: ignore[arg-type]  # redis-py wants a wider dict
    await pipeline.execute()
    process = Process(redis)
    async with process.switches.followed():
        assert process.refuses(principal(tenant="t2499"))
    assert len(await board.disabled()) == 2500


async def test_an_entry_of_a_newer_version_is_told_once_and_skipped(
    redis: Redis, board: Switchboard
) -> None:
    await redis.xadd(STREAM, {"kind": "region", "name": "eu", "turned": "off"})
    process = Process(redis)
    with capture_logs() as lines:
        async with process.switches.followed():
            await board.disable("tenant", "acme", by="ops", reason="incident")
            await process.will_refuse(principal(tenant="acme"))
    assert [line["event"] for line in lines].count("switch_unknown") == 1


async def test_who_has_never_read_the_board_is_not_ready() -> None:
    away = create_redis(f"redis://127.0.0.1:{free_port()}/0")
    process = Process(away)
    async with process.switches.followed():
        report = await process.health.report()
    await away.aclose(close_connection_pool=True)
    assert not report.ok
    assert report.checks["switches"].error == "unavailable"


async def test_without_redis_a_process_is_ready_and_nothing_is_off() -> None:
    process = Process(None)
    async with process.switches.followed():
        assert (await process.health.report()).ok
        assert not process.refuses(viewer(), "crm_search")


async def test_an_operator_is_told_when_nothing_was_switched() -> None:
    away = create_redis(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(Unavailable):
        await Switchboard(away).disable("tool", "crm_*", by="ops", reason="incident")
    with pytest.raises(Unavailable):
        await Switchboard(away).disabled()
    await away.aclose(close_connection_pool=True)


@asynccontextmanager
async def own_valkey(folder: Path) -> AsyncGenerator[tuple[Valkey, list[Child]]]:
    """Run a server of this test's own; the list holds what to stop."""
    valkey = Valkey(
        home=folder / "server",
        port=free_port(),
        password="test",
        durable=False,
        log=folder / "valkey.log",
    )
    running = [await asyncio.to_thread(valkey.start)]
    try:
        yield valkey, running
    finally:
        await asyncio.to_thread(running[-1].stop)


async def test_what_was_off_stays_off_while_redis_is_away_and_when_it_comes_back_empty(
    tmp_path: Path,
) -> None:
    async with own_valkey(tmp_path) as (valkey, running):
        redis = create_redis(valkey.url)
        process = Process(redis)
        async with process.switches.followed():
            await Switchboard(redis).disable("tenant", "acme", by="ops", reason="incident")
            await process.will_refuse(principal(tenant="acme"))
            await asyncio.to_thread(running[0].stop)

            async def is_degraded() -> bool:
                return process.health.degraded == {"switches"}

            await wait_until(is_degraded)
            assert process.refuses(principal(tenant="acme"))
            assert (await process.health.report()).ok
            running.append(await asyncio.to_thread(valkey.start))

            async def is_well() -> bool:
                return not process.health.degraded

            await wait_until(is_well)
            assert await Switchboard(redis).history() == []
            assert process.refuses(principal(tenant="acme"))
            await Switchboard(redis).enable("tenant", "acme", by="ops", reason="over")
            await process.will_allow(principal(tenant="acme"))
        await redis.aclose(close_connection_pool=True)
