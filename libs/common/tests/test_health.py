from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
import structlog

from fleet_common.clock import ManualClock
from fleet_common.errors import Unavailable
from fleet_common.health import Check, Health
from fleet_common.metrics import Metrics

SECRET = "postgres://app:hunter2@db"


class Dependency:
    """A dependency that answers, or fails with a given error, and counts how often it was asked."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.asked = 0

    async def probe(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def postgres() -> Dependency:
    return Dependency()


@pytest.fixture
def health(postgres: Dependency, clock: ManualClock) -> Health:
    return Health([Check("postgres", postgres.probe)], clock=clock)


async def never() -> None:
    await asyncio.Event().wait()


async def test_without_checks_a_process_is_ready() -> None:
    report = await Health().report()
    assert report.to_dict() == {"ok": True, "draining": False, "degraded": [], "checks": {}}


async def test_all_checks_passing_is_ready(health: Health) -> None:
    report = await health.report()
    assert report.ok
    assert report.checks["postgres"].ok
    assert report.checks["postgres"].error is None


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (Unavailable("postgres"), "unavailable"),
        (ConnectionRefusedError(SECRET), "ConnectionRefusedError"),
        (TimeoutError(SECRET), "timeout"),
    ],
)
async def test_a_failing_check_is_named_by_a_code_and_not_by_its_text(
    health: Health, postgres: Dependency, failure: Exception, code: str
) -> None:
    postgres.failure = failure
    report = await health.report()
    assert not report.ok
    assert report.checks["postgres"].error == code
    assert "hunter2" not in json.dumps(report.to_dict())


async def test_a_check_that_never_answers_ends_at_its_own_deadline(postgres: Dependency) -> None:
    health = Health([Check("slow", never, timeout_s=0.05), Check("postgres", postgres.probe)])
    report = await health.report()
    assert not report.ok
    assert report.checks["slow"].error == "timeout"
    assert 40 <= report.checks["slow"].ms < 5000
    assert report.checks["postgres"].ok


async def test_checks_run_at_the_same_time() -> None:
    together = asyncio.Barrier(3)

    async def probe() -> None:
        await together.wait()

    health = Health([Check(str(number), probe, timeout_s=5) for number in range(3)])
    assert (await health.report()).ok


async def test_an_answer_is_kept_for_a_second(
    health: Health, postgres: Dependency, clock: ManualClock
) -> None:
    await health.report()
    postgres.failure = Unavailable("postgres")
    clock.advance(0.9)
    assert (await health.report()).ok
    clock.advance(0.2)
    assert not (await health.report()).ok
    assert postgres.asked == 2


async def test_callers_that_come_together_share_one_round(
    health: Health, postgres: Dependency
) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(health.report()) for _ in range(20)]
    assert all(task.result().ok for task in tasks)
    assert postgres.asked == 1


async def test_a_caller_that_leaves_does_not_take_the_answer_with_it() -> None:
    probing, release = asyncio.Event(), asyncio.Event()

    async def probe() -> None:
        probing.set()
        await release.wait()

    health = Health([Check("slow", probe, timeout_s=5)])
    first = asyncio.create_task(health.report())
    await probing.wait()
    second = asyncio.create_task(health.report())
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    release.set()
    assert (await second).ok


async def test_draining_ends_readiness_at_once_and_nothing_else(health: Health) -> None:
    assert (await health.report()).ok
    health.draining = True
    report = await health.report()
    assert not report.ok
    assert report.draining
    assert health.liveness().ok
    assert (await health.startup()).ok


async def test_draining_that_begins_during_a_probe_counts() -> None:
    process = Health()

    async def probe() -> None:
        process.draining = True

    process.watch([Check("x", probe)])
    assert not (await process.report()).ok


async def test_startup_is_latched_by_the_first_readiness(
    health: Health, postgres: Dependency, clock: ManualClock
) -> None:
    postgres.failure = Unavailable("postgres")
    assert not (await health.startup()).ok
    postgres.failure = None
    clock.advance(2)
    assert (await health.startup()).ok
    postgres.failure = Unavailable("postgres")
    clock.advance(2)
    assert not (await health.report()).ok
    assert (await health.startup()).ok


async def test_liveness_asks_no_dependency(health: Health, postgres: Dependency) -> None:
    postgres.failure = Unavailable("postgres")
    assert health.liveness().ok
    assert postgres.asked == 0


async def test_losing_and_regaining_a_dependency_is_logged_once_each(
    health: Health, postgres: Dependency, clock: ManualClock
) -> None:
    states: list[Callable[[], Awaitable[object]]] = [health.report] * 2
    with structlog.testing.capture_logs() as events:
        for failure in (Unavailable("postgres"), None):
            postgres.failure = failure
            for ask in states:
                await ask()
                clock.advance(2)
    assert [event["event"] for event in events] == ["dependency_lost", "dependency_back"]


async def test_checks_may_come_once_the_dependencies_are_open(health: Health) -> None:
    assert (await health.report()).ok
    qdrant = Dependency()
    qdrant.failure = Unavailable("qdrant")
    health.watch([Check("qdrant", qdrant.probe)])
    report = await health.report()
    assert not report.ok
    assert list(report.checks) == ["qdrant"]


async def test_what_readiness_found_last_is_exported(health: Health, postgres: Dependency) -> None:
    metrics, line = Metrics("data"), 'mcp_check_ok{check="postgres",service="data"} '
    health.export(metrics)

    async def shown() -> str:
        text = (await asyncio.to_thread(metrics.render))[0].decode()
        return text.partition(f"\n{line}")[2].partition("\n")[0]

    assert await shown() == "NaN"
    postgres.failure = Unavailable("database")
    await health.report()
    assert await shown() == "0.0"
    postgres.failure = None
    health.watch([Check("postgres", postgres.probe)])
    await health.report()
    assert await shown() == "1.0"
