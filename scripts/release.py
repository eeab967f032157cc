"""Release one package: `release.py data 0.2.0` makes the commit `data: release 0.2.0` and its tag.

Sets the version, closes the changelog's Unreleased section with today's date and, for a service, sets the image tag in
its Kubernetes base. Pushing the tag `data/v0.2.0` is left to you: CI tests, builds and publishes from there.
`release.py --notes data 0.2.0` prints that version's section of the changelog.
"""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from packages import ROOT, Package, package

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_UNRELEASED = "## Unreleased\n"


def close_section(changelog: str, version: str, day: str) -> str:
    """Return the changelog with what was unreleased under `version`.

    Raises:
        SystemExit: nothing is unreleased.
    """
    before, found, after = changelog.partition(_UNRELEASED)
    entries = after.partition("\n## ")[0]
    if not found or not re.search(r"^- ", entries, re.MULTILINE):
        raise SystemExit("The changelog's Unreleased section has no entry.")
    return f"{before}{_UNRELEASED}\n## {version} - {day}\n{after}"


def notes(changelog: str, version: str) -> str:
    """Return the section of `version`, without its heading.

    Raises:
        SystemExit: there is no such section.
    """
    match = re.search(
        rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
    )
    if match is None:
        raise SystemExit(f"The changelog has no section for {version}.")
    return match.group(1).strip()


def set_version(text: str, version: str, *, key: str) -> str:
    """Return `text` with the first `key: …` or `key = "…"` set to `version`."""
    pattern = rf'^(\s*{key}\s*[=:]\s*"?)[^"\n]+'
    return re.sub(pattern, rf"\g<1>{version}", text, count=1, flags=re.MULTILINE)


def release(each: Package, version: str, root: Path = ROOT) -> list[Path]:
    """Write the release into the files of `each` and return them."""
    folder = root / each.folder
    today = datetime.now(UTC).date().isoformat()
    changed = [folder / "CHANGELOG.md", folder / "pyproject.toml"]
    changed[0].write_text(close_section(changed[0].read_text("utf-8"), version, today), "utf-8")
    changed[1].write_text(
        set_version(changed[1].read_text("utf-8"), version, key="version"), "utf-8"
    )
    base = root / "k8s/base" / each.name / "kustomization.yaml"
    if each.is_service:
        base.write_text(set_version(base.read_text("utf-8"), version, key="newTag"), "utf-8")
        changed.append(base)
    return changed


def main(arguments: list[str]) -> int:
    """Release, or print the notes of a release."""
    match arguments:
        case ["--notes", name, version]:
            print(notes((ROOT / package(name).folder / "CHANGELOG.md").read_text("utf-8"), version))
        case [name, version] if _VERSION.fullmatch(version):
            files = [str(path) for path in release(package(name), version)]
            title = f"{name}: release {version}"
            _git("commit", "--quiet", "--message", title, "--", *files)
            _git("tag", "--annotate", f"{name}/v{version}", "--message", title)
            print(f"{title}. Publish it with: git push origin HEAD {name}/v{version}")
        case _:
            raise SystemExit("Usage: make release PKG=data VERSION=0.2.0")
    return 0


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
