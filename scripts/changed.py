"""Print the packages a change touches, as the JSON list a CI matrix wants: `changed.py BASE`.

libs/common is under everything, so a change there, to the pins or to the shared settings touches
every package.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from changelog_gate import git
from packages import ROOT, Package, packages

EVERYTHING = (
    "libs/",
    "requirements/",
    "pyproject.toml",
    "conftest.py",
    "Makefile",
    "scripts/",
    ".github/workflows/",
)


def touched(files: list[str], known: list[Package]) -> list[str]:
    """Return the names of the packages whose tests these files can turn red."""
    if any(file.startswith(EVERYTHING) for file in files):
        return [each.name for each in known]
    return [each.name for each in known if any(f.startswith(f"{each.folder}/") for f in files)]


def main(base: str, root: Path = ROOT) -> int:
    """Print the touched packages; every package where `base` is unknown."""
    names = git(root, "diff", "--name-only", f"{base}...HEAD")
    known = packages(root)
    everyone = [each.name for each in known]
    print(json.dumps(everyone if names is None else touched(names.splitlines(), known)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "origin/main"))
