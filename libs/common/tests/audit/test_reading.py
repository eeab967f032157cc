from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fleet_common.audit import files
from fleet_common.audit.chain import Chain
from fleet_common.audit.events import AuditEvent
from fleet_common.audit.files import lines_backwards, logs_in
from fleet_common.audit.reading import Question, newest_first

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MakeEvent = Callable[..., AuditEvent]


@given(text=st.text(alphabet="ab\n", max_size=40), block=st.integers(1, 7))
@example(text="\n", block=1)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_come_backwards_whatever_the_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, block: int
) -> None:
    monkeypatch.setattr(files, "_BLOCK_BYTES", block)
    path = tmp_path / "log"
    path.write_text(text)
    whole = [line for line in text.encode().splitlines(keepends=True) if line.endswith(b"\n")]
    assert list(lines_backwards([path])) == whole[::-1]


def test_files_come_newest_first(tmp_path: Path) -> None:
    old, new = tmp_path / "data.jsonl.000001", tmp_path / "data.jsonl"
    old.write_bytes(b"1\n2\n")
    new.write_bytes(b"3\n4\nhalf")
    assert list(lines_backwards([old, new])) == [b"4\n", b"3\n", b"2\n", b"1\n"]


def test_a_log_whose_newest_file_is_gone_is_still_a_log(tmp_path: Path) -> None:
    for name in ("data.jsonl.000001", "data.jsonl.lock", "aiml.jsonl", "aiml-2.jsonl", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in logs_in(tmp_path)] == ["aiml-2.jsonl", "aiml.jsonl", "data.jsonl"]


@pytest.fixture
def path(tmp_path: Path, event: MakeEvent) -> Path:
    chain = Chain(service="data", instance="host:1")
    events = [
        event("crm_search", time=NOON),
        event("crm_search", time=NOON + timedelta(minutes=1), tenant="other"),
        event("crm_delete", time=NOON + timedelta(minutes=2), decision="deny"),
        event("db_query", time=NOON + timedelta(minutes=3), subject="key:else0001"),
    ]
    path = tmp_path / "data.jsonl"
    lines = [chain.start("file", previous=None), *map(chain.event, events)]
    path.write_bytes(b"".join([*lines[:3], b"not a record\n", *lines[3:]]))
    return path


@pytest.mark.parametrize(
    ("question", "found"),
    [
        (Question(), ["db_query", "crm_delete", "crm_search", "crm_search"]),
        (Question(tenant="demo"), ["db_query", "crm_delete", "crm_search"]),
        (Question(subject="key:else0001"), ["db_query"]),
        (Question(tool="crm_*"), ["crm_delete", "crm_search", "crm_search"]),
        (Question(decision="deny"), ["crm_delete"]),
        (Question(since=NOON + timedelta(seconds=90)), ["db_query", "crm_delete"]),
        (Question(tool="crm_*", tenant="nobody"), []),
    ],
)
def test_records_are_found_newest_first(path: Path, question: Question, found: list[str]) -> None:
    fitting = [record["target"] for record in newest_first(path, question) if record]
    assert fitting == found
