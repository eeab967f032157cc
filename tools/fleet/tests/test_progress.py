from __future__ import annotations

import io

import pytest
from rich.console import Console

from fleet_cli.progress import LineProgress, LiveProgress, open_progress, working


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_pipe_gets_one_plain_line_per_step() -> None:
    console = Console(file=io.StringIO(), width=80)

    with open_progress(console, ["data"]) as progress, working(progress, "data", "soon") as step:
        step.note = "done [so it is]"

    assert isinstance(progress, LineProgress)
    assert written(console).split() == ["ok", "data", "0.0", "s", "done", "[so", "it", "is]"]


def test_a_step_that_fails_is_marked() -> None:
    console = Console(file=io.StringIO(), width=80)

    with (
        pytest.raises(RuntimeError),
        open_progress(console, ["data"]) as progress,
        working(progress, "data"),
    ):
        raise RuntimeError

    assert written(console).startswith("FAILED data")


def test_a_terminal_sees_waiting_working_and_done() -> None:
    console = terminal()

    with open_progress(console, ["postgres", "data", "aiml"]) as progress:
        assert isinstance(progress, LiveProgress)
        with working(progress, "postgres"):
            pass
        with working(progress, "data", "migrating"):
            console.print(progress._table())
    console.print(progress._table())

    assert "✓" in written(console)
    assert "migrating" in written(console)
    assert "aiml" in written(console)


def test_a_terminal_keeps_the_table_when_something_failed() -> None:
    console = terminal()

    with (
        pytest.raises(RuntimeError),
        open_progress(console, ["data"]) as progress,
        working(progress, "data"),
    ):
        raise RuntimeError

    assert "✗" in written(console)
