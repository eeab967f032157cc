"""Print what an image is made of as CycloneDX JSON: the Python packages of this environment, and Debian's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from urllib.parse import quote


def components() -> Iterator[dict[str, str]]:
    """Return every package with its package URL."""
    for each in distributions():
        name = each.metadata["Name"].lower().replace("_", "-")
        yield _component("pypi", name, each.version)
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package} ${Version}\\n"],
        capture_output=True,
        text=True,
        check=True,
    )
    for line in listed.stdout.splitlines():
        name, version = line.split()
        yield _component("deb/debian", name, version)


def _component(kind: str, name: str, version: str) -> dict[str, str]:
    return {"name": name, "version": version, "purl": f"pkg:{kind}/{name}@{quote(version, ':')}"}


def main(name: str, version: str) -> None:
    """Print the bill of materials of the image `name`."""
    parts = sorted(components(), key=lambda each: each["purl"])
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": [{"type": "library", **each} for each in parts],
    }
    json.dump(bill, sys.stdout, indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
