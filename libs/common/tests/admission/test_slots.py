from __future__ import annotations

import asyncio

import pytest

from fleet_common.admission import Admission, Caller
from fleet_common.errors import Overloaded
from fleet_common.metrics import Metrics
from fleet_common.testing.admission import slot


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("test")


def series(metrics: Metrics) -> dict[str, float]:
    """Return the admission series by short name."""
    found = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            reason = sample.labels.get("reason")
            found[sample.name + (f":{reason}" if reason else "")] = sample.value
    return found


async def hold(admission: Admission, release: asyncio.Event, timeout_s: float = 5) -> None:
    async with slot(admission, timeout_s):
        await release.wait()


async def until(metrics: Metrics, name: str, value: float) -> None:
    async with asyncio.timeout(5):
        while series(metrics)[name] != value:  # noqa: ASYNC110 - a gauge has no event
            await asyncio.sleep(0)


async def test_calls_beyond_the_slots_wait_their_turn_in_order(metrics: Metrics) -> None:
    admission = Admission(slots=1, queue=2, metrics=metrics)
    order: list[int] = []

    async def call(number: int) -> None:
        async with slot(admission, 5):
            order.append(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(call(number))
    assert order == [0, 1, 2]
    assert series(metrics)["mcp_requests_started_total"] == 3
    assert series(metrics)["mcp_admission_inflight"] == 0


async def test_a_full_queue_sheds_at_once_with_a_wait(metrics: Metrics) -> None:
    admission = Admission(slots=1, queue=1, metrics=metrics)
    release = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(admission, release))
        group.create_task(hold(admission, release))
        await until(metrics, "mcp_admission_waiting", 1)
        with pytest.raises(Overloaded) as caught:
            async with slot(admission, 5):
                pass
        release.set()
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s >= 1
    assert series(metrics)["mcp_admission_shed_total:queue_full"] == 1


async def test_a_call_whose_time_ends_in_the_queue_is_shed(metrics: Metrics) -> None:
    admission = Admission(slots=1, queue=1, metrics=metrics)
    release = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(admission, release))
        await until(metrics, "mcp_admission_inflight", 1)
        with pytest.raises(Overloaded):
            await hold(admission, release, timeout_s=0.01)
        release.set()
    assert series(metrics)["mcp_admission_shed_total:deadline"] == 1
    assert series(metrics)["mcp_admission_waiting"] == 0


async def test_a_call_that_could_not_make_it_is_shed_without_waiting(metrics: Metrics) -> None:
    now = [0.0]
    admission = Admission(slots=1, queue=9, metrics=metrics, monotonic=lambda: now[0])
    async with slot(admission, 5):
        now[0] += 100.0  # the mean time in a slot is now 10 s
    release = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(admission, release))
        await until(metrics, "mcp_admission_inflight", 1)
        with pytest.raises(Overloaded, match="retry after 10 s"):
            await hold(admission, release, timeout_s=2)
        release.set()


async def test_a_caller_who_leaves_the_queue_frees_its_place(metrics: Metrics) -> None:
    admission = Admission(slots=1, queue=1, metrics=metrics)
    release = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(admission, release))
        leaver = group.create_task(hold(admission, release))
        await until(metrics, "mcp_admission_waiting", 1)
        leaver.cancel()
        await until(metrics, "mcp_admission_waiting", 0)
        group.create_task(hold(admission, release))
        await until(metrics, "mcp_admission_waiting", 1)
        release.set()
    assert series(metrics)["mcp_admission_inflight"] == 0


async def test_a_slot_given_to_a_caller_who_just_left_goes_to_the_next(metrics: Metrics) -> None:
    admission = Admission(slots=1, queue=2, metrics=metrics)
    release, last = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(admission, release))
        leaver = group.create_task(hold(admission, release))
        await until(metrics, "mcp_admission_waiting", 1)
        group.create_task(hold(admission, last))
        await until(metrics, "mcp_admission_waiting", 2)
        release.set()
        await asyncio.sleep(0)  # the holder leaves: the turn of the second is set
        leaver.cancel()
        await until(metrics, "mcp_admission_waiting", 0)
        last.set()
    assert series(metrics)["mcp_admission_inflight"] == 0


async def test_a_flooding_tenant_does_not_keep_another_out(metrics: Metrics) -> None:
    admission = Admission(slots=1, queue=3, metrics=metrics)
    release, served, shed = asyncio.Event(), [], []

    async def call(tenant: str) -> None:
        try:
            async with slot(admission, 5, Caller(tenant)):
                served.append(tenant)
        except Overloaded:
            shed.append(tenant)

    async with asyncio.TaskGroup() as group:
        group.create_task(hold(admission, release))
        await until(metrics, "mcp_admission_inflight", 1)
        for _ in range(10):
            group.create_task(call("flood"))
        await until(metrics, "mcp_admission_waiting", 3)
        group.create_task(call("small"))
        await until(metrics, "mcp_requests_started_total", 12)
        release.set()
    assert served == ["flood", "small", "flood"]
    assert shed == ["flood"] * 8
    assert series(metrics)["mcp_admission_inflight"] == 0
    assert series(metrics)["mcp_admission_waiting"] == 0


async def test_a_batch_call_waits_for_the_interactive_ones(metrics: Metrics) -> None:
    admission = Admission(slots=1, queue=9, metrics=metrics)
    release, served = asyncio.Event(), []

    async def call(name: str, is_batch: bool) -> None:
        async with slot(admission, 5, Caller("demo", is_batch)):
            served.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(hold(admission, release))
        await until(metrics, "mcp_admission_inflight", 1)
        group.create_task(call("export", True))
        group.create_task(call("question", False))
        await until(metrics, "mcp_admission_waiting", 2)
        release.set()
    assert served == ["question", "export"]


async def test_nobody_waits_longer_than_the_service_allows(metrics: Metrics) -> None:
    admission = Admission(slots=1, queue=9, wait_s=0.01, metrics=metrics)
    release = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(admission, release))
        await until(metrics, "mcp_admission_inflight", 1)
        with pytest.raises(Overloaded):
            await hold(admission, release, timeout_s=30)
        release.set()
