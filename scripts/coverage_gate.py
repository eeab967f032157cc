"""Print each package's coverage from one data file and fail where it is under its gate.

A package's tests must reach 85 % of its lines and branches, fleet_common's 90 %, because everything
rests on it. Names on the command line narrow it to those packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packages import ROOT, Package, package, packages

GATES = {"common": 90.0}
DEFAULT_GATE = 85.0


@dataclass(frozen=True, slots=True)
class Row:
    """What the tests reached of one package, in percent; `total` adds lines and branches."""

    name: str
    lines: float
    branches: float
    total: float
    gate: float

    @property
    def passes(self) -> bool:
        """Tell whether the package reaches its gate."""
        return self.total >= self.gate


def measure(files: dict[str, Any], each: Package) -> Row:
    """Add up the files of one package from coverage's JSON report."""
    prefix = f"{each.folder}/src/"
    found = [facts["summary"] for name, facts in files.items() if name.startswith(prefix)]
    lines = sum(f["covered_lines"] for f in found), sum(f["num_statements"] for f in found)
    branches = sum(f["covered_branches"] for f in found), sum(f["num_branches"] for f in found)
    total = lines[0] + branches[0], lines[1] + branches[1]
    gate = GATES.get(each.name, DEFAULT_GATE)
    return Row(each.name, _percent(*lines), _percent(*branches), _percent(*total), gate)


def main(names: list[str], root: Path = ROOT) -> int:
    """Print the table; 1 means that a package is under its gate."""
    files = _report(root)
    rows = [measure(files, each) for each in ([package(n) for n in names] or packages(root))]
    print(f"{'coverage':<10}{'lines':>8}{'branches':>10}{'both':>8}{'gate':>7}")
    for row in rows:
        verdict = "" if row.passes else "   under its gate: `make cov` shows where"
        shown = f"{row.name:<10}{row.lines:>7.1f}%{row.branches:>9.1f}%{row.total:>7.1f}%"
        print(f"{shown}{row.gate:>6.0f}%{verdict}")
    return 0 if all(row.passes for row in rows) else 1


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0


def _report(root: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "coverage.json")
        command = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", str(out)]
        subprocess.run(command, cwd=root, check=True)
        files: dict[str, Any] = json.loads(out.read_text("utf-8"))["files"]
    return files


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
