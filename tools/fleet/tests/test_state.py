from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fleet_cli.errors import AlreadyRunning
from fleet_cli.state import State, find_project, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_closed_to_everybody_else(state: State) -> None:
    state.path.chmod(0o755)

    state.ensure()

    assert mode(state.path) == 0o700


def test_a_file_is_readable_by_its_owner_only(state: State) -> None:
    state.write("facts.json", {"a": 1})

    assert mode(state.path / "facts.json") == 0o600
    assert state.read("facts.json") == {"a": 1}


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"'])
def test_a_file_that_was_cut_off_reads_as_empty(state: State, text: str) -> None:
    (state.path / "facts.json").write_text(text)

    assert state.read("facts.json") == {}


def test_a_write_that_fails_leaves_the_old_text_and_nothing_else(state: State) -> None:
    state.write("facts.json", {"a": 1})

    with pytest.raises(UnicodeEncodeError):
        write_private(state.path / "facts.json", "\ud800")

    assert state.read("facts.json") == {"a": 1}
    assert not list(state.path.glob(".facts*"))


def test_an_overlong_log_is_put_aside(state: State) -> None:
    state.log("data").write_bytes(b"x" * (10 * 1024 * 1024 + 1))

    assert not state.rotated_log("data").exists()
    assert state.log("data").with_suffix(".log.1").exists()


def test_a_short_log_stays(state: State) -> None:
    state.log("data").write_text("line\n")

    assert state.rotated_log("data").read_text() == "line\n"


def test_one_project_has_one_fleet(state: State) -> None:
    state.write("run.json", {"fleet": {"pid": 4711, "started": 1.0}})
    with state.locked():
        assert state.is_locked()
        with pytest.raises(AlreadyRunning, match=r"already running.*4711"), state.locked():
            pass

    assert not state.is_locked()


def test_a_killed_holder_does_not_keep_the_project(state: State) -> None:
    code = (
        "import os, signal; from pathlib import Path; from fleet_cli.state import State\n"
        f"with State(Path({str(state.project)!r})).locked(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)

    with state.locked():
        pass


def test_a_project_that_never_ran_is_not_locked(tmp_path: Path) -> None:
    assert not State(tmp_path).is_locked()


def test_the_project_is_found_upwards(tmp_path: Path) -> None:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    deep = tmp_path / "repo" / "a" / "b"
    deep.mkdir(parents=True)

    assert find_project(deep) == tmp_path / "repo"
    (tmp_path / "repo" / "a" / ".fleet").mkdir()
    assert find_project(deep) == tmp_path / "repo" / "a"
