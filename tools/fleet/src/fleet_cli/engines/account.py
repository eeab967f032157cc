"""Who PostgreSQL runs as, and where it may live: it refuses root, and its own user cannot enter root's folders.

For a normal user both answers are trivial: the same user, the project's own state folder. For root
a system user is created once, and data and binaries go to a folder that user can reach.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from fleet_cli.errors import EngineUnavailable
from fleet_cli.processes import Account

SYSTEM_USER = "fleet-postgres"
SYSTEM_DIR = Path("/var/lib/mcp-fleet")
# Where useradd is missing or not allowed, an unprivileged user that most systems have is good
# enough.
FALLBACK_USERS = ("postgres", "nobody")


def engine_account() -> Account | None:
    """Return the system user for PostgreSQL; None when we are not root and it runs as ourselves.

    Raises:
        EngineUnavailable: there is no unprivileged user and none can be created.
    """
    if os.geteuid() != 0:
        return None
    found = find_account(SYSTEM_USER) or create_account(SYSTEM_USER)
    for name in FALLBACK_USERS:
        found = found or find_account(name)
    if found is None:
        raise EngineUnavailable(
            "PostgreSQL refuses to run as root and no unprivileged user could be created.",
            hint=f"Create one (useradd --system {SYSTEM_USER}), run as a normal user, "
            "or set FLEET_DATA_DATABASE_URL to a PostgreSQL of your own.",
        )
    return found


def find_account(name: str) -> Account | None:
    """Return the unprivileged system user of that name; None if there is none."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid) if entry.pw_uid else None


def create_account(name: str) -> Account | None:
    """Create a system user without a home or a shell; None where that is not possible."""
    useradd = shutil.which("useradd")
    if useradd is None:
        return None
    command = [useradd, "--system", "--no-create-home", "--home-dir", "/nonexistent"]
    command += ["--shell", "/usr/sbin/nologin", "--user-group", name]
    # Another process may create it at the same moment: what counts is whether it is there
    # afterwards.
    subprocess.run(command, capture_output=True, check=False, timeout=20)  # noqa: S603  # fixed text
    return find_account(name)


def system_dir() -> Path:
    """Return the folder for engine files of root, reachable for every user."""
    place = Path(os.environ.get("FLEET_ENGINE_DIR", SYSTEM_DIR))
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    return place


def is_reachable(path: Path) -> bool:
    """Whether any user may enter `path`: every folder on the way has the search bit for others."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))
