"""Make the secrets of docker/compose.yaml: `compose_secrets.py FOLDER`; those that are there stay as they are.

They are the ones that the Job first-secrets makes on a cluster, as files: a Secret of settings becomes NAME.env.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

from packages import ROOT

SCRIPT = ROOT / "k8s/components/first-secrets/first_secrets.py"
# What the images of the stores call the password.
PASSWORDS = {
    "postgres": "POSTGRES_PASSWORD",
    "redis": "REDISCLI_AUTH",
    "qdrant": "QDRANT__SERVICE__API_KEY",
}


class Folder:
    """Keeps secrets in files of one folder, and what they were made of in secrets.json."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._kept: dict[str, dict[str, str]] = {}
        if (path / "secrets.json").exists():
            self._kept = json.loads((path / "secrets.json").read_text("utf-8"))

    def ensure(self, name: str, make: Callable[[], dict[str, str]]) -> dict[str, str]:
        """Return what the secret `name` holds; a missing one is made first."""
        if name not in self._kept:
            self._kept[name] = make()
            self._write("secrets.json", json.dumps(self._kept, indent=1))
        values = self._kept[name]
        for file in (key for key in values if "." in key):
            self._write(
                file, values[file], mode=0o644
            )  # the containers' user, who reads it, is not you
        settings = {PASSWORDS.get(name, key): values[key] for key in values if "." not in key}
        self._write(f"{name}.env", "".join(f"{key}={value}\n" for key, value in settings.items()))
        return values

    def _write(self, name: str, text: str, mode: int = 0o600) -> None:
        path = self._path / name
        path.touch(mode=mode)
        path.write_text(text, "utf-8")


def main(folder: Path) -> None:
    """Make what is missing."""
    spec = importlib.util.spec_from_file_location("first_secrets", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.make_secrets(Folder(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
