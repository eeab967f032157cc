from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil

from fleet_cli.processes import Child, ProcessRecord, tail

Spawn = Callable[..., Child]
Eventually = Callable[..., None]

IGNORES_TERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
HAS_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_process_is_found_again_by_pid_and_start_time(spawn: Spawn) -> None:
    child = spawn("import time; time.sleep(60)")

    found = child.record.process()

    assert found is not None
    assert found.pid == child.popen.pid


def test_a_recycled_pid_is_never_signalled(spawn: Spawn) -> None:
    child = spawn("import time; time.sleep(60)")
    earlier = replace(child.record, started=child.record.started - 3600)

    assert earlier.end() is False
    assert child.is_alive


def test_ending_a_process_that_is_gone_says_so(spawn: Spawn) -> None:
    child = spawn("pass")
    child.popen.wait()

    assert child.record.end() is False


def test_there_is_no_record_of_a_process_that_never_was() -> None:
    unused = max(psutil.pids()) + 100_000

    assert ProcessRecord.of(unused) is None
    assert ProcessRecord(unused, 0.0).process() is None


def test_a_zombie_does_not_count_as_running(spawn: Spawn, eventually: Eventually) -> None:
    child = spawn("pass")

    eventually(lambda: psutil.Process(child.popen.pid).status() == psutil.STATUS_ZOMBIE)
    assert child.record.process() is None


def test_a_deaf_child_is_killed_when_its_time_is_up(spawn: Spawn, eventually: Eventually) -> None:
    child = spawn(IGNORES_TERM)
    eventually(lambda: "deaf" in child.last_words())

    child.stop(grace_s=0.2)

    assert child.popen.poll() == -signal.SIGKILL


def test_a_deaf_orphan_is_killed_when_its_time_is_up(spawn: Spawn, eventually: Eventually) -> None:
    child = spawn(IGNORES_TERM)
    eventually(lambda: "deaf" in child.last_words())

    assert child.record.end(grace_s=0.2) is True

    assert child.popen.wait(5) == -signal.SIGKILL


def test_what_a_child_has_started_ends_with_it(spawn: Spawn, eventually: Eventually) -> None:
    child = spawn(HAS_A_CHILD)
    eventually(child.last_words)
    grandchild = psutil.Process(int(child.last_words()))

    child.stop()

    eventually(lambda: not psutil.pid_exists(grandchild.pid) or grandchild.status() == "zombie")


def test_what_an_orphan_has_started_ends_with_it(spawn: Spawn, eventually: Eventually) -> None:
    child = spawn(HAS_A_CHILD)
    eventually(child.last_words)
    grandchild = ProcessRecord.of(int(child.last_words()))

    child.record.end()

    assert grandchild is not None
    eventually(lambda: grandchild.process() is None)


def test_stopping_twice_is_harmless(spawn: Spawn) -> None:
    child = spawn("import time; time.sleep(60)")
    child.stop()
    child.stop()

    assert not child.is_alive


def test_a_child_gets_its_own_stop_signal(spawn: Spawn, eventually: Eventually) -> None:
    code = "import signal, sys, time\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(7))\n"
    child = spawn(code + "print('up', flush=True)\ntime.sleep(60)", stop_signal=signal.SIGINT)
    eventually(child.last_words)

    child.stop()

    assert child.popen.poll() == 7


def test_a_child_does_not_hear_the_terminal(spawn: Spawn) -> None:
    child = spawn("import time; time.sleep(60)")

    assert os.getpgid(child.popen.pid) != os.getpgid(0)


def test_last_words_are_those_of_this_start(spawn: Spawn) -> None:
    spawn("print('the first life')").popen.wait()
    second = spawn("print('the second life')")
    second.popen.wait()

    assert second.last_words() == "the second life"
    assert "the first life" in second.log.read_text()


def test_the_end_of_a_long_file_is_read_without_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    path.write_text("".join(f"line {number}\n" for number in range(100_000)))

    assert tail(path, 2) == "line 99998\nline 99999"
    assert tail(tmp_path / "none.log", 2) == ""
