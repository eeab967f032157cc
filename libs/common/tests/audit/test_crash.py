"""A real process, killed or on a full disk: what it answered is in the log, and the log is whole."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet_common.audit import verify
from fleet_common.audit.chain import read_record
from fleet_common.audit.files import lines_of

# Answers each write on stdout once it is durable, and reads in between; runs until it is killed.
WRITES_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from fleet_common.audit import AuditEvent, AuditLog
from fleet_common.audit.sinks import FileSink

def event(target):
    return AuditEvent(action="tool", target=target, decision="allow", outcome="ok")

async def work(log, worker):
    for number in range(10**9):
        log.append(event("read"))
        await log.commit(event(f"{worker}.{number}"))
        print(f"{worker}.{number}", flush=True)

async def main():
    log = AuditLog(FileSink(Path(sys.argv[1]), max_bytes=50_000), service="data")
    async with log.opened(), asyncio.TaskGroup() as group:
        for worker in range(8):
            group.create_task(work(log, worker))

asyncio.run(main())
"""

# Fills its disk (a limit on the size of its files), says so, gets room again, and says how that went.
FILLS_THE_DISK = """
import asyncio, json, resource, signal, sys
from pathlib import Path
from fleet_common.audit import AuditEvent, AuditLog
from fleet_common.audit.sinks import FileSink
from fleet_common.audit.writer import Pace
from fleet_common.errors import AuditUnavailable

def event(target):
    return AuditEvent(action="tool", target=target, decision="allow", outcome="ok")

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then the write fails with EFBIG
    log = AuditLog(
        FileSink(Path(sys.argv[1]), max_bytes=10**9), service="data", pace=Pace(retry_s=0.05)
    )
    durable, refused = 0, None
    async with log.opened():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
        while refused is None:
            try:
                await log.commit(event(str(durable)))
                durable += 1
            except AuditUnavailable as error:
                refused = error.to_dict()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        async with asyncio.timeout(5):
            while True:
                try:
                    log.check()
                    break
                except AuditUnavailable:
                    await asyncio.sleep(0.01)
        await log.commit(event("after"))
    print(json.dumps({"durable": durable, "refused": refused}))

asyncio.run(main())
"""


@contextmanager
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WRITES_FOR_EVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def targets(paths: list[Path]) -> list[str]:
    records: list[dict[str, Any]] = [read_record(line) for _, line in lines_of(paths)]
    return [record["target"] for record in records if record["kind"] == "event"]


def files(path: Path) -> list[Path]:
    return [*sorted(path.parent.glob("data.jsonl.0*")), path]


@pytest.mark.timeout(30)
def test_kill_9_loses_no_answered_write_and_leaves_a_whole_chain(audit_path: Path) -> None:
    answered: list[str] = []
    for round_number in range(3):
        with writer(audit_path) as process:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
            time.sleep(0.1 + 0.05 * round_number)
            os.kill(process.pid, signal.SIGKILL)
            answered += re.findall(r"^(\d+\.\d+)\n", process.stdout.read(), re.MULTILINE)
    verdict = verify(lines_of(files(audit_path)))
    assert verdict.problem is None
    assert verdict.chains == 3
    assert sum("has no closing record" in gap for gap in verdict.gaps) == 3
    written = targets(files(audit_path))
    for target in set(answered):
        assert written.count(target) >= answered.count(target)
    assert len(answered) > 20


@pytest.mark.timeout(30)
def test_a_full_disk_refuses_and_recovers(audit_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLS_THE_DISK, str(audit_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["refused"]["code"], told["refused"]["retryable"]) == ("audit_unavailable", True)
    expected = [str(number) for number in range(told["durable"] + 1)]  # the refused one came later
    assert targets([audit_path]) == [*expected, "after"]
    verdict = verify(lines_of([audit_path]))
    assert (verdict.ok, len(verdict.gaps)) == (True, 0)
