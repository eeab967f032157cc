"""What a person sees while the fleet starts: a table that fills in a terminal, plain lines anywhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

Outcome = Literal["waiting", "working", "done", "failed"]


@dataclass(slots=True)
class Step:
    """One thing that is being done; `note` is what a person should know about it right now."""

    name: str
    outcome: Outcome = "waiting"
    note: str = ""
    began: float = field(default_factory=time.monotonic)
    took_s: float = 0.0


class Progress(Protocol):
    """Receives steps as they begin and end; from several threads."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def changed(self, step: Step) -> None:
        """Show a step that began, got a note, or ended."""
        ...


@contextmanager
def working(progress: Progress, name: str, note: str = "") -> Iterator[Step]:
    """Show `name` as being worked on for as long as the block runs."""
    step = Step(name, "working", note)
    progress.changed(step)
    try:
        yield step
    except BaseException:
        step.outcome = "failed"
        raise
    else:
        step.outcome = "done"
    finally:
        step.took_s = time.monotonic() - step.began
        progress.changed(step)


class LineProgress:
    """One line per finished step: for logs, pipes and CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""

    def changed(self, step: Step) -> None:
        """Print the step once it has ended."""
        if step.outcome not in {"done", "failed"}:
            return
        word = "ok" if step.outcome == "done" else "FAILED"
        note = f"  {step.note}" if step.note else ""
        with self._lock:
            self._console.print(
                f"{word:<6} {step.name:<9} {step.took_s:5.1f} s{note}",
                markup=False,
                highlight=False,
            )


class LiveProgress:
    """A table that fills while the fleet starts, and disappears when the final screen comes."""

    def __init__(self, console: Console, names: list[str]) -> None:
        self._steps = {name: Step(name) for name in names}
        self._spinner = Spinner("dots", style="cyan")
        self._began = time.monotonic()
        self._live = Live(
            console=console, get_renderable=self._table, refresh_per_second=12, transient=True
        )

    def __enter__(self) -> Self:
        """Show the table."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the table on the screen only when something failed."""
        self._live.transient = kind is None
        self._live.stop()

    def changed(self, step: Step) -> None:
        """Take over the step; the next refresh shows it."""
        self._steps[step.name] = step

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_row("", Text("Starting the fleet", style="bold"), f"{self._elapsed():.0f} s", "")
        for step in list(self._steps.values()):
            table.add_row(*self._row(step))
        return table

    def _row(self, step: Step) -> tuple[Spinner | Text, Text, Text, Text]:
        quiet = "dim" if step.outcome == "waiting" else ""
        seconds = {"waiting": "", "working": f"{time.monotonic() - step.began:.1f} s"}
        return (
            self._mark(step),
            Text(step.name, style=quiet),
            Text(seconds.get(step.outcome, f"{step.took_s:.1f} s"), style="dim", justify="right"),
            Text(step.note, style="dim", overflow="ellipsis", no_wrap=True),
        )

    def _mark(self, step: Step) -> Spinner | Text:
        marks = {
            "waiting": Text("·", style="dim"),
            "done": Text("✓", style="green"),
            "failed": Text("✗", style="bold red"),
        }
        return marks.get(step.outcome, self._spinner)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


def open_progress(console: Console, names: list[str]) -> Progress:
    """Return what fits where we write to: a terminal or anything else."""
    return LiveProgress(console, names) if console.is_terminal else LineProgress(console)
