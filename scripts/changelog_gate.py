"""Refuse a change of a package's source that its CHANGELOG.md does not mention.

Looks at the commits since BASE (an environment variable; CI sets it to the branch a change is meant
for), else since origin/main, else at the last commit. A commit whose message has a line
`No-Changelog: reason` is let off. Without git, or with a history that does not reach back that far,
there is nothing to compare and the gate passes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from packages import ROOT, Package, packages

EXEMPT = re.compile(r"^No-Changelog: \S", re.MULTILINE)


def git(root: Path, *arguments: str) -> str | None:
    """Return what git prints, or None where it fails: no repository, no such commit."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def base_commit(root: Path) -> str | None:
    """Return the commit that the change starts from."""
    if named := os.environ.get("BASE"):
        return git(root, "merge-base", named, "HEAD")
    head = git(root, "rev-parse", "HEAD")
    upstream = git(root, "merge-base", "origin/main", "HEAD")
    return upstream if upstream and upstream != head else git(root, "rev-parse", "HEAD^")


def unmentioned(root: Path, base: str, known: list[Package]) -> list[str]:
    """Return a sentence for every package whose source changed without a line in its changelog."""
    changelogs = set((git(root, "diff", "--name-only", base, "--", "*CHANGELOG.md") or "").split())
    complaints = []
    for each in known:
        changelog = f"{each.folder}/CHANGELOG.md"
        commits = _unexcused(root, base, f"{each.folder}/src")
        if commits and changelog not in changelogs:
            complaints.append(f"{changelog} says nothing about {', '.join(commits)}.")
    return complaints


def _unexcused(root: Path, base: str, folder: str) -> list[str]:
    hashes = (git(root, "rev-list", "--no-merges", f"{base}..HEAD", "--", folder) or "").split()
    messages = {each: git(root, "show", "-s", "--format=%B", each) or "" for each in hashes}
    return [each[:8] for each, message in messages.items() if not EXEMPT.search(message)]


def main(root: Path = ROOT) -> int:
    """Run the gate; 1 means that a changelog line is missing."""
    base = base_commit(root)
    complaints = unmentioned(root, base, packages(root)) if base else []
    for complaint in complaints:
        print(complaint)
    if complaints:
        print("Write a line under Unreleased, or say `No-Changelog: reason` in the commit.")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
