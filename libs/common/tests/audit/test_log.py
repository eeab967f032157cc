from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog.testing

from fleet_common.audit import AuditEvent, AuditLog, verify
from fleet_common.audit.writer import Pace
from fleet_common.clock import ManualClock
from fleet_common.errors import AuditUnavailable
from fleet_common.testing import wait_until

# Nothing is written before somebody asks for it, and failures are tried again at once.
PATIENT = Pace(gather_s=60, retry_s=0.01, patience_s=2)
MakeEvent = Callable[..., AuditEvent]


def log_of(sink: Any, **how: Any) -> AuditLog:
    return AuditLog(sink, service="data", **{"pace": PATIENT, **how})


def is_whole(sink: Any) -> bool:
    verdict = verify((str(n), line) for n, line in enumerate(sink.lines))
    return verdict.ok and verdict.gaps == []


async def test_a_closed_log_is_whole(sink: Any, event: MakeEvent) -> None:
    log = log_of(sink)
    async with log.opened():
        log.append(event("a"))
        await log.commit(event("b"))
        log.append(event("c"))
    assert sink.targets() == ["a", "b", "c"]
    assert [record["kind"] for record in sink.records][-1] == "stop"
    assert is_whole(sink)
    assert not sink.is_open


async def test_who_commits_waits_until_the_record_stands(sink: Any, event: MakeEvent) -> None:
    log = log_of(sink)
    async with log.opened():
        await log.flush()
        sink.gate.clear()
        committing = asyncio.ensure_future(log.commit(event("write")))
        await asyncio.sleep(0.05)
        assert not committing.done()
        sink.gate.set()
        await committing
        assert sink.targets() == ["write"]


async def test_one_sync_serves_everybody_who_waits(sink: Any, event: MakeEvent) -> None:
    log = log_of(sink)
    async with log.opened():
        await log.flush()
        sink.gate.clear()
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(log.commit(event(str(number))))
            await asyncio.sleep(0.05)
            sink.gate.set()
        assert len(sink.targets()) == 200
        assert len(sink.groups) <= 4  # header, at most one before the gate, and the rest together


async def test_reads_are_written_though_nobody_waits(sink: Any, event: MakeEvent) -> None:
    log = log_of(sink, pace=Pace(gather_s=0.05))
    async with log.opened():
        log.append(event("a"))
        await wait_until(lambda: _holds(sink.targets() == ["a"]))


async def test_reads_alone_do_not_wake_the_disk_each(sink: Any, event: MakeEvent) -> None:
    log = log_of(sink)
    async with log.opened():
        for number in range(100):
            log.append(event(str(number)))
            await asyncio.sleep(0)
        await log.flush()
        assert len(sink.groups) == 2


async def test_a_failing_sink_refuses_calls_and_recovers_by_itself(
    sink: Any, event: MakeEvent
) -> None:
    log = log_of(sink)
    with structlog.testing.capture_logs() as logged:
        async with log.opened():
            await log.flush()
            sink.fails = True
            with pytest.raises(AuditUnavailable) as refused:
                await log.commit(event("kept"))
            assert refused.value.retryable
            assert refused.value.retry_after_s == 1.0
            with pytest.raises(AuditUnavailable):
                log.check()
            with pytest.raises(AuditUnavailable):
                await log.probe()
            async with asyncio.timeout(4):  # what is known to fail is not waited for
                with pytest.raises(AuditUnavailable):
                    await log.commit(event("kept too"))
            sink.fails = False
            await wait_until(lambda: _is_usable(log))
            await log.commit(event("after"))
    assert sink.targets() == ["kept", "kept too", "after"]
    assert is_whole(sink)
    told = [line["event"] for line in logged]
    assert told.count("audit_failed") == 1
    assert "audit_recovered" in told


async def test_a_full_buffer_refuses_calls_and_recovers(sink: Any, event: MakeEvent) -> None:
    log = log_of(sink, capacity=10)
    async with log.opened():
        await log.flush()
        sink.gate.clear()
        for number in range(10):
            log.append(event(str(number)))
        with pytest.raises(AuditUnavailable):
            log.check()
        sink.gate.set()
        await log.flush()
        log.check()
    assert sink.targets() == [str(number) for number in range(10)]


async def test_a_flood_of_refusals_is_counted_and_costs_no_more_memory(
    sink: Any, event: MakeEvent
) -> None:
    log = log_of(sink, capacity=10)
    async with log.opened():
        await log.flush()
        for number in range(1000):
            log.append(event(str(number), decision="shed"))
        with pytest.raises(AuditUnavailable):
            await log.commit(event("write"))
    assert len(sink.targets()) == 20
    (lost,) = [record for record in sink.records if record["kind"] == "lost"]
    assert lost["count"] == 981


async def test_a_disk_that_does_not_answer_counts_as_failing(sink: Any, event: MakeEvent) -> None:
    clock = ManualClock()
    log = log_of(sink, pace=Pace(gather_s=60, patience_s=0.2), clock=clock)
    async with log.opened():
        await log.flush()
        sink.gate.clear()
        with pytest.raises(AuditUnavailable):
            await log.commit(event("slow"))
        log.check()
        clock.advance(1)
        with pytest.raises(AuditUnavailable):
            log.check()
        sink.gate.set()
        await wait_until(lambda: _is_usable(log))
    assert sink.targets() == ["slow"]


async def test_a_log_that_is_not_open_refuses(sink: Any, event: MakeEvent) -> None:
    log = log_of(sink)
    with pytest.raises(AuditUnavailable):
        log.check()
    with pytest.raises(AuditUnavailable):
        await log.commit(event())
    async with log.opened():
        log.check()
    with pytest.raises(AuditUnavailable):
        log.check()


async def test_a_log_can_be_opened_again_for_another_chain(sink: Any, event: MakeEvent) -> None:
    log = log_of(sink)
    for name in ("a", "b"):
        async with log.opened():
            log.append(event(name))
    assert [record["kind"] for record in sink.records].count("start") == 2


async def test_a_process_that_ends_while_its_disk_fails_claims_nothing_more(
    sink: Any, event: MakeEvent
) -> None:
    log = log_of(sink)
    with structlog.testing.capture_logs() as logged:
        async with log.opened():
            await log.flush()
            sink.fails = True
            log.append(event("gone"))
    assert [record["kind"] for record in sink.records] == ["start"]
    assert "audit_lost" in [line["event"] for line in logged]


async def test_the_ordinary_log_names_the_newest_hash(sink: Any, event: MakeEvent) -> None:
    with structlog.testing.capture_logs() as logged:
        log = log_of(sink, pace=Pace(gather_s=60, anchor_s=0))
        async with log.opened():
            await log.commit(event())
    anchors = [line["hash"] for line in logged if line["event"] == "audit_anchored"]
    assert anchors == [record["hash"] for record in sink.records]


async def test_an_idle_log_is_anchored_too(sink: Any, event: MakeEvent) -> None:
    with structlog.testing.capture_logs() as logged:
        log = log_of(sink, pace=Pace(gather_s=0, anchor_s=0.1))
        async with log.opened():
            await log.commit(event())
            await wait_until(lambda: _holds(logged[-1].get("hash") == sink.records[-1]["hash"]))


async def test_what_was_counted_is_in_the_log_when_it_closes(sink: Any, event: MakeEvent) -> None:
    log = log_of(sink)
    async with log.opened():
        for _ in range(3):
            log.tally("alike", lambda: event("shed", decision="shed"))
    (record,) = sink.events
    assert (record["target"], record["count"]) == ("shed", 3)
    assert is_whole(sink)


async def test_a_disk_that_never_answers_does_not_hold_up_the_end(
    sink: Any, event: MakeEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_common.audit.log._CLOSE_S", 0.05)
    with structlog.testing.capture_logs() as logged:
        async with log_of(sink).opened():
            sink.gate.clear()
    sink.gate.set()
    assert logged[-1]["event"] == "audit_lost"
    await wait_until(lambda: _holds(not sink.is_open))


async def test_an_abandoned_commit_is_still_written(sink: Any, event: MakeEvent) -> None:
    log = log_of(sink)
    async with log.opened():
        await log.flush()
        sink.gate.clear()
        committing = asyncio.ensure_future(log.commit(event("write")))
        await asyncio.sleep(0)
        committing.cancel()
        sink.gate.set()
        await asyncio.wait([committing])
        assert committing.cancelled()
    assert sink.targets() == ["write"]


async def _holds(condition: bool) -> bool:
    return condition


async def _is_usable(log: AuditLog) -> bool:
    try:
        await log.probe()
    except AuditUnavailable:
        return False
    return True
