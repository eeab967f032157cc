"""Where the database of a project lives: `.fleet/postgres`, which for root is a link to a reachable folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

from fleet_cli.engines.account import system_dir
from fleet_cli.engines.postgres import read_postmaster


def postgres_place(state_folder: Path) -> Path:
    """Return the folder for the database of the project whose `.fleet` this is, created if missing."""
    place = state_folder / "postgres"
    if os.geteuid() != 0:
        place.mkdir(mode=0o700, exist_ok=True)
        return place
    if not place.is_dir():
        place.unlink(missing_ok=True)
        place.symlink_to(_system_place(state_folder))
    return place.resolve()


def _system_place(state_folder: Path) -> Path:
    # Named by the project's path, so that what a removed `.fleet` left behind is found and cleared.
    prefix = hashlib.sha256(str(state_folder.resolve()).encode()).hexdigest()[:16] + "-"
    for abandoned in system_dir().glob(prefix + "*"):
        _remove(abandoned)
    place = Path(tempfile.mkdtemp(prefix=prefix, dir=system_dir()))
    place.chmod(0o711)
    return place


def _remove(place: Path) -> None:
    for pid_file in place.glob("*/data/postmaster.pid"):
        if postmaster := read_postmaster(pid_file):
            postmaster.end(signal.SIGINT)
    shutil.rmtree(place)
