"""The packages of this repository: where each one is, what it imports as, which version it has."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Package:
    """One folder under libs/, services/ or tools/ that has a pyproject.toml."""

    folder: str
    """Relative to the root, such as `services/data`."""
    module: str
    """Import name, such as `fleet_data`."""
    project: dict[str, Any]
    """The [project] table of its pyproject.toml."""

    @property
    def name(self) -> str:
        """Return the short name people type: `data`, `common`, `fleet`."""
        return self.folder.rpartition("/")[2]

    @property
    def version(self) -> str:
        """Return the version the tree has now."""
        return str(self.project["version"])

    @property
    def is_service(self) -> bool:
        """Tell whether this runs as a process of its own, with an image and manifests."""
        return self.folder.startswith("services/")


def packages(root: Path = ROOT) -> list[Package]:
    """Return every package under `root`, libraries first."""
    folders = (root / kind for kind in ("libs", "services", "tools"))
    return [
        _read(root, each) for folder in folders for each in sorted(folder.glob("*/pyproject.toml"))
    ]


def package(name: str, root: Path = ROOT) -> Package:
    """Return the package called `name`.

    Raises:
        SystemExit: there is none; the text names those there are.
    """
    known = {each.name: each for each in packages(root)}
    if name not in known:
        message = f"There is no package {name!r}; there are: {', '.join(known)}."
        raise SystemExit(message)
    return known[name]


def _read(root: Path, pyproject: Path) -> Package:
    folder = pyproject.parent
    modules = [each.name for each in (folder / "src").iterdir() if (each / "__init__.py").exists()]
    if len(modules) != 1:
        message = f"{folder}/src must hold exactly one package, not {modules}."
        raise SystemExit(message)
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    return Package(str(folder.relative_to(root)), modules[0], project)
