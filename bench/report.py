"""What a benchmark gives: figures for programs, a table for people, and the machine they were taken on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


def this_machine() -> str:
    """Return one line about the machine and the day."""
    model = platform.processor() or platform.machine()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} cores ({model}), load {load}, "
        f"{datetime.now(UTC):%Y-%m-%d}."
    )


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one benchmark.

    Attributes:
        figures: by name; None where a rival could not be run.
        table: Markdown.
        notes: why a figure is None, or what to know about it.
        machine: what it was measured on, and when.
    """

    figures: dict[str, float | None]
    table: str
    notes: dict[str, str] = field(default_factory=dict)
    machine: str = field(default_factory=this_machine)

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return the one object that `--json` prints for the benchmark `name`."""
        return {
            "figures": self.figures,
            "notes": self.notes,
            "machine": self.machine,
            "command": f"python -m bench {name} --json",
        }
