"""`.fleet/`: everything a fleet on this machine remembers, readable by its owner only.

lock            held while `fleet run` runs; the kernel releases it, whatever happens to the process
run.json        the running (or last) fleet: ports, and every child by pid and start time
secrets.json    passwords of the engines, the signing key of tenant claims, and the admin key
keys.json       the fleet keys, as hashes
internal/       the key pair behind the gateway's 60-second tokens
stamps.json     digests of work that is done: documents indexed
logs/           one file per process
audit/          one audit log per process
postgres        the database, or a link to it: as root it lives where its own user can go
valkey/ vectors/
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_cli.errors import AlreadyRunning

FOLDER = ".fleet"
POLICY = "fleet-policy.yaml"
_LOG_LIMIT_BYTES = 10 * 1024 * 1024


def find_project(start: Path) -> Path:
    """Return the nearest folder, upwards from `start`, that has a `.fleet` or is a checkout; else `start`."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FOLDER).is_dir() or (folder / ".git").exists():
            return folder
    return start


@dataclass(frozen=True, slots=True)
class State:
    """The state folder of one project."""

    project: Path

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.project / FOLDER

    @property
    def keys_file(self) -> Path:
        """The fleet keys, as hashes."""
        return self.path / "keys.json"

    @property
    def private_key_file(self) -> Path:
        """What the gateway signs internal tokens with."""
        return self.path / "internal" / "private.pem"

    @property
    def public_key_file(self) -> Path:
        """What the services verify internal tokens with."""
        return self.path / "internal" / "public.pem"

    def policy_file(self, user: Mapping[str, str]) -> Path | None:
        """Return what FLEET_POLICY_FILE names, else the project's fleet-policy.yaml; None when there is neither."""
        named = user.get("FLEET_POLICY_FILE")
        if named:
            return Path(named).resolve()
        path = self.project / POLICY
        return path if path.exists() else None

    @property
    def audit_folder(self) -> Path:
        """Where each service keeps its audit log."""
        return self.path / "audit"

    def ensure(self) -> None:
        """Create the folder, closed to everybody else."""
        for folder in (self.path, self.path / "logs", self.path / "internal", self.audit_folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        # A folder that was made by hand, or under another umask, is closed as well.
        self.path.chmod(0o700)

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.path / "logs" / f"{name}.log"

    def rotated_log(self, name: str) -> Path:
        """Return the log file of a process that is about to start; an over-long one is put aside first."""
        path = self.log(name)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > _LOG_LIMIT_BYTES:
                path.replace(path.with_suffix(".log.1"))
        return path

    def read(self, name: str) -> dict[str, Any]:
        """Return a JSON file of the folder; empty when it is missing or was cut off."""
        try:
            found = json.loads((self.path / name).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, facts: dict[str, Any]) -> None:
        """Replace a JSON file of the folder at once."""
        write_private(self.path / name, json.dumps(facts, indent=2) + "\n")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the project for one `fleet run`.

        Raises:
            AlreadyRunning: another process holds it.
        """
        self.ensure()
        # Children do not inherit the descriptor, so the lock ends with this process even by kill -9.
        with (self.path / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning(
                    self._who_runs(),
                    hint="`fleet status` shows it; Ctrl-C in its terminal stops it.",
                ) from None
            yield

    def is_locked(self) -> bool:
        """Whether a `fleet run` holds the project."""
        try:
            with (self.path / "lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _who_runs(self) -> str:
        pid = (self.read("run.json").get("fleet") or {}).get("pid")
        return f"A fleet is already running in {self.project}" + (f" (pid {pid})." if pid else ".")


def write_private(path: Path, text: str) -> None:
    """Replace a file at once, mode 0600: a reader sees the old text or the new one, never half."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
