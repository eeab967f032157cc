"""Release one package: `release.py data 0.2.0` makes the commit `data: release 0.2.0` and its tag.

Refuses without an entry in the changelog, without a version past the released one and, for a service, without the
major version that a change needs which breaks callers. Sets the version, closes the changelog's Unreleased section
with today's date and, for a service, sets the image tag in its Kubernetes base. Pushing the tag `data/v0.2.0` is left
to you: CI tests, builds and publishes from there.
`release.py --notes data 0.2.0` prints that version's section of the changelog.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import tool_contract
from changelog_gate import git
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


def refusal(each: Package, version: str, root: Path = ROOT) -> str | None:
    """Return why `each` must not be released as `version`, or None.

    A version is compared with the last one that was released: its tag, where there is one.
    """
    tag = f"{each.name}/v{each.version}"
    if git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}") is None:
        return None  # nobody relies on it yet
    if _number(version) <= _number(each.version):
        return f"{each.name} is at {each.version} already."
    path = f"{each.folder}/tools.json"
    released = git(root, "show", f"{tag}:{path}")
    if released is None or tool_contract.permits_breaks(each.version, version):
        return None
    now = json.loads((root / path).read_text("utf-8"))
    broken = tool_contract.breaks(json.loads(released), now)
    return "\n".join([f"{version} would break callers:", *broken]) if broken else None


def make(each: Package, version: str, root: Path = ROOT) -> None:
    """Commit and tag the release.

    Raises:
        SystemExit: it is refused; the text says why.
    """
    if reason := refusal(each, version, root):
        raise SystemExit(reason)
    files = [str(path) for path in release(each, version, root)]
    title, tag = f"{each.name}: release {version}", f"{each.name}/v{version}"
    for command in (
        ["commit", "--quiet", "--message", title, "--", *files],
        ["tag", "--annotate", tag, "--message", title],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    print(f"{title}. Publish it with: git push origin HEAD {tag}")


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Release, or print the notes of a release."""
    match arguments:
        case ["--notes", name, version]:
            changelog = root / package(name, root).folder / "CHANGELOG.md"
            print(notes(changelog.read_text("utf-8"), version))
        case [name, version] if _VERSION.fullmatch(version):
            make(package(name, root), version, root)
        case _:
            raise SystemExit(
                "Usage: scripts/release SERVICE VERSION, such as scripts/release data 0.2.0"
            )
    return 0


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
