"""Refuse tracked files that name one machine: its registry, its checkout, somebody's home.

What works only where it was written does not belong in a repository. The registries are read from
this machine's own pip, uv and npm settings, so no host has to be listed here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from packages import ROOT

PUBLIC = {
    "pypi.org",
    "files.pythonhosted.org",
    "registry.npmjs.org",
    "download.pytorch.org",
    "github.com",
}
HOME = re.compile(
    r"(?<![\w./-])(?:/(?:home|Users)/(?!user/|you/|nonroot/|runner/)[a-z][\w-]*/|/root/[\w.])"
)
INDEX = re.compile(
    r"(?:index-url|find-links|registry)\s*[= ]\s*[\"']?(?:https?|file)://(?P<host>[^/\s\"']*)"
)


def private_hosts() -> set[str]:
    """Return the registry hosts this machine is set up with, other than the public ones."""
    urls = [
        v
        for k, v in os.environ.items()
        if re.match(r"(?i)(pip|uv|npm_config)_.*(index|registry)", k)
    ]
    for command in (
        [sys.executable, "-m", "pip", "config", "list"],
        ["npm", "config", "get", "registry"],
    ):
        urls += re.findall(r"https?://[^\s'\"]+", _output(command))
    return {host for url in urls if (host := urlsplit(url).hostname)} - PUBLIC


def traces(text: str, hosts: set[str], checkout: str | None) -> list[str]:
    """Return what in `text` belongs to one machine only."""
    found = [host for host in sorted(hosts) if host in text]
    found += [match.group(0) for match in HOME.finditer(text)]
    found += [m.group(0) for m in INDEX.finditer(text) if m.group("host") not in PUBLIC]
    if checkout and re.search(re.escape(checkout) + r"(?![\w-])", text):
        found.append(checkout)
    return found


def main(root: Path = ROOT) -> int:
    """Read every tracked text file; 1 means that one of them names a machine."""
    hosts = private_hosts()
    # A short path such as /app or /src is a usual place in an image, not a trace.
    checkout = str(root) if len(root.parts) > 2 else None
    failed = False
    for name in _output(["git", "-C", str(root), "ls-files"]).splitlines():
        for trace in traces(_read(root / name), hosts, checkout):
            print(f"{name}: {trace}")
            failed = True
    return 1 if failed else 0


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return ""


if __name__ == "__main__":
    sys.exit(main())
