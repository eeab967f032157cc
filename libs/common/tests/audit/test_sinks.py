from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet_common.audit import verify
from fleet_common.audit.chain import Chain
from fleet_common.audit.events import AuditEvent
from fleet_common.audit.files import lines_of, rotated_files, sequence, siblings
from fleet_common.audit.sinks import FileSink, StreamSink
from fleet_common.settings import SettingsError

BIG = 1_000_000


@pytest.fixture
def sink(audit_path: Path) -> Iterator[FileSink]:
    sink = FileSink(audit_path, max_bytes=BIG)
    yield sink
    sink.close()


def run_of(sink: FileSink, event: AuditEvent, count: int = 3, *, closed: bool = True) -> None:
    """Write what one process writes."""
    tail = sink.open()
    chain = Chain(service="data", instance="host:1")
    sink.write([chain.start("file", previous=tail.head, cut_bytes=tail.cut_bytes)])
    for _ in range(count):
        sink.write([chain.event(event)])
    if closed:
        sink.write([chain.stop()])
    sink.close()


def test_only_its_owner_may_read_the_file(sink: FileSink, audit_path: Path) -> None:
    audit_path.parent.mkdir()
    audit_path.touch(0o644)
    sink.open()
    assert stat.S_IMODE(audit_path.stat().st_mode) == 0o600


def test_a_new_folder_is_closed_to_others(sink: FileSink, audit_path: Path) -> None:
    sink.open()
    assert stat.S_IMODE(audit_path.parent.stat().st_mode) == 0o700


def test_processes_after_one_another_make_one_chain(
    sink: FileSink, audit_path: Path, event: Callable[..., AuditEvent]
) -> None:
    for _ in range(3):
        run_of(sink, event())
    verdict = verify(lines_of([audit_path]))
    assert (verdict.ok, verdict.chains, verdict.records, verdict.gaps) == (True, 3, 15, [])


def test_a_half_written_record_is_removed_and_admitted(
    sink: FileSink, audit_path: Path, event: Callable[..., AuditEvent]
) -> None:
    run_of(sink, event(), closed=False)
    with audit_path.open("ab") as file:
        file.write(b'{"kind":"eve')
    run_of(sink, event())
    verdict = verify(lines_of([audit_path]))
    assert verdict.ok
    assert any("12 bytes of a half-written record" in gap for gap in verdict.gaps)


def test_a_bad_last_record_is_not_covered_up_by_the_next_process(
    sink: FileSink, audit_path: Path, event: Callable[..., AuditEvent]
) -> None:
    run_of(sink, event())
    audit_path.write_bytes(audit_path.read_bytes() + b"nonsense\n")
    run_of(sink, event())
    verdict = verify(lines_of([audit_path]))
    assert verdict.problem == "data.jsonl:6: the record is not a whole record"


def test_a_full_file_is_put_aside_and_the_chain_goes_on(
    audit_path: Path, event: Callable[..., AuditEvent]
) -> None:
    for _ in range(2):
        run_of(FileSink(audit_path, max_bytes=1000), event(), count=12)
    aside = rotated_files(audit_path)
    assert len(aside) >= 6
    assert [each.suffix for each in aside[:2]] == [".000001", ".000002"]
    assert all(each.stat().st_size <= 1000 for each in sequence(audit_path))
    verdict = verify(lines_of(sequence(audit_path)))
    assert (verdict.ok, verdict.chains, verdict.records) == (True, 2, 28)


def test_a_missing_file_in_between_is_found(
    audit_path: Path, event: Callable[..., AuditEvent]
) -> None:
    run_of(FileSink(audit_path, max_bytes=1000), event(), count=12)
    rotated_files(audit_path)[2].unlink()
    assert not verify(lines_of(sequence(audit_path))).ok


def test_a_process_that_starts_after_a_rotation_continues_the_file_put_aside(
    sink: FileSink, audit_path: Path, event: Callable[..., AuditEvent]
) -> None:
    run_of(sink, event())
    audit_path.rename(audit_path.with_name("data.jsonl.000001"))
    run_of(sink, event())
    verdict = verify(lines_of(sequence(audit_path)))
    assert (verdict.ok, verdict.chains) == (True, 2)


def test_a_second_process_writes_a_file_of_its_own(
    sink: FileSink, audit_path: Path, event: Callable[..., AuditEvent]
) -> None:
    sink.open()
    second = FileSink(audit_path, max_bytes=BIG)
    run_of(second, event())
    assert second.path.name == "data-2.jsonl"
    assert siblings(audit_path) == [audit_path, second.path]
    assert verify(lines_of([second.path])).ok


def test_records_never_go_to_a_file_that_was_removed(
    sink: FileSink, audit_path: Path, event: Callable[..., AuditEvent]
) -> None:
    sink.open()
    chain = Chain(service="data", instance="host:1")
    sink.write([chain.start("file", previous=None)])
    audit_path.unlink()
    sink.write([chain.event(event())])
    verdict = verify(lines_of([audit_path]))
    assert verdict.problem == (
        "data.jsonl:1: the record is number 1: what came before it is missing"
    )


def test_a_group_that_does_not_fit_is_taken_back_whole(
    sink: FileSink, audit_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_sync(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    sink.open()
    sink.write([b"first\n"])
    with monkeypatch.context() as full:
        full.setattr(os, "fdatasync", no_sync)
        with pytest.raises(OSError, match="No space left"):
            sink.write([b"second\n", b"third\n"])
    assert audit_path.read_bytes() == b"first\n"
    sink.write([b"second\n", b"third\n"])
    assert audit_path.read_bytes() == b"first\nsecond\nthird\n"


def test_a_file_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sink = FileSink(tmp_path / "file" / "data.jsonl", max_bytes=BIG)
    with pytest.raises(SettingsError, match="the audit log cannot be kept in"):
        sink.open()


def test_a_closed_sink_opens_again_for_a_write(sink: FileSink, audit_path: Path) -> None:
    sink.open()
    sink.close()
    sink.write([b"line\n"])
    assert audit_path.read_bytes() == b"line\n"


def test_a_stream_gets_the_lines_however_slow_its_reader_is() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    sink = StreamSink(writer)
    assert sink.open().head is None
    pid = os.fork()
    if pid == 0:  # a reader that starts when the pipe has long been full
        os.close(writer)
        received = 0
        while data := os.read(reader, 65536):
            received += len(data)
        os._exit(0 if received == 500_000 else 1)
    os.close(reader)
    sink.write([b"x" * 499 + b"\n"] * 1000)
    sink.close()
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
