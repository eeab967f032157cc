"""Make what a new installation needs to let anybody in: a key file and the internal key pair.

`first_credentials.py FOLDER` writes keys.json, private.pem and public.pem there and prints an admin key, once.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fleet_common.auth.internal import generate_keypair
from fleet_common.auth.keys import KeyFile


def main(folder: Path) -> None:
    """Write the files and print the key."""
    key = KeyFile(folder / "keys.json").create(name="admin", roles=["admin"], tenant="demo")
    for name, pem in zip(("private.pem", "public.pem"), generate_keypair(), strict=True):
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(pem)
    print(f"key: {key.text}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
