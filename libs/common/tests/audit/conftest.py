"""Events, chains and sinks to check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_common.audit.chain import Chain
from fleet_common.audit.events import AuditEvent
from fleet_common.testing.audit import MemorySink

Write = Callable[..., list[bytes]]


def an_event(target: str = "note_get", **facts: object) -> AuditEvent:
    usual: dict[str, object] = {
        "action": "tool",
        "decision": "allow",
        "outcome": "ok",
        "subject": "key:test0001",
        "tenant": "demo",
    }
    return AuditEvent(target=target, **{**usual, **facts})  # type: ignore[arg-type]


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def event() -> Callable[..., AuditEvent]:
    return an_event


@pytest.fixture
def write_chain() -> Write:
    """Returns the lines of one process: a header, events, and a closing record."""

    def write(
        events: int = 3,
        *,
        previous: str | None = None,
        key: bytes | None = None,
        closed: bool = True,
        sink: str = "file",
    ) -> list[bytes]:
        chain = Chain(service="data", instance="host:1", key=key)
        lines = [chain.start(sink, previous=previous)]
        lines += [chain.event(an_event(f"tool_{number}")) for number in range(events)]
        return [*lines, chain.stop()] if closed else lines

    return write


@pytest.fixture
def audit_path(tmp_path: Path) -> Path:
    return tmp_path / "audit" / "data.jsonl"
