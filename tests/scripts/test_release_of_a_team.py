"""A release as a team makes it, in a repository that is thrown away."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import release
from changelog_gate import git
from packages import package

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

PYPROJECT = '[project]\nname = "fleet-{name}"\nversion = "{version}"\n'
SEARCH = {"required": ["query"], "takes": {"limit": ["integer"], "query": ["string"]}}


class Repository:
    """Two services, of which `data` has been released as 1.2.0."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "Somebody")
        self.git("config", "user.email", "somebody@example.com")
        for name, version in (("data", "1.2.0"), ("aiml", "0.4.0")):
            self.write(
                f"services/{name}/pyproject.toml", PYPROJECT.format(name=name, version=version)
            )
            self.write(f"services/{name}/src/fleet_{name}/__init__.py", "")
            self.write(f"services/{name}/CHANGELOG.md", "# Changelog\n\n## Unreleased\n")
            self.write(
                f"k8s/base/{name}/kustomization.yaml",
                f"images:\n  - name: x\n    newTag: {version}\n",
            )
            self.tools(name, {f"{name}_search": SEARCH})
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "Begin")
        self.git("tag", "data/v1.2.0")
        self.git("tag", "aiml/v0.4.0")

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.root, check=True)

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text, "utf-8")

    def tools(self, name: str, tools: dict[str, object]) -> None:
        self.write(f"services/{name}/tools.json", json.dumps(tools))

    def change(self, name: str, tools: dict[str, object]) -> None:
        """Commit a change of a service's tools, with a line in its changelog."""
        self.tools(name, tools)
        self.write(
            f"services/{name}/CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n- Something.\n"
        )
        self.git("commit", "--quiet", "--all", "--message", "Change")

    def release(self, name: str, version: str) -> int:
        return release.main([name, version], self.root)

    def said(self, *arguments: str) -> str:
        return git(self.root, *arguments) or ""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_release_is_one_commit_and_one_tag_of_one_service(repository: Repository) -> None:
    repository.change("data", {"data_search": SEARCH, "data_count": {"required": [], "takes": {}}})
    assert repository.release("data", "1.3.0") == 0
    assert repository.said("describe", "--exact-match") == "data/v1.3.0"
    assert repository.said("log", "-1", "--format=%s") == "data: release 1.3.0"
    assert set(repository.said("show", "--name-only", "--format=", "HEAD").split()) == {
        "services/data/CHANGELOG.md",
        "services/data/pyproject.toml",
        "k8s/base/data/kustomization.yaml",
    }
    assert "newTag: 1.3.0" in (repository.root / "k8s/base/data/kustomization.yaml").read_text()
    assert package("aiml", repository.root).version == "0.4.0"


def test_nothing_unreleased_is_not_released(repository: Repository) -> None:
    with pytest.raises(SystemExit, match="no entry"):
        repository.release("data", "1.3.0")
    assert repository.said("status", "--porcelain") == ""


def test_a_version_goes_forward(repository: Repository) -> None:
    repository.change("data", {"data_search": SEARCH})
    with pytest.raises(SystemExit, match=r"data is at 1\.2\.0 already"):
        repository.release("data", "1.2.0")


@pytest.mark.parametrize(
    ("tools", "what"),
    [
        ({"data_find": SEARCH}, "data_search is gone"),
        (
            {"data_search": SEARCH | {"takes": {"limit": ["integer"], "text": ["string"]}}},
            "data_search no longer takes query",
        ),
        (
            {"data_search": SEARCH | {"required": ["limit", "query"]}},
            "data_search must now be given limit",
        ),
        (
            {"data_search": SEARCH | {"takes": {"limit": ["string"], "query": ["string"]}}},
            "data_search takes no integer as limit",
        ),
    ],
    ids=["renamed", "argument", "required", "type"],
)
def test_what_breaks_callers_needs_a_major_version(
    tools: dict[str, object], what: str, repository: Repository
) -> None:
    repository.change("data", tools)
    with pytest.raises(SystemExit, match=what):
        repository.release("data", "1.3.0")
    assert repository.said("tag", "--list", "data/v1.3.0") == ""
    assert repository.release("data", "2.0.0") == 0


def test_before_1_0_a_minor_version_may_break(repository: Repository) -> None:
    repository.change("aiml", {"aiml_find": SEARCH})
    with pytest.raises(SystemExit, match="aiml_search is gone"):
        repository.release("aiml", "0.4.1")
    assert repository.release("aiml", "0.5.0") == 0


def test_what_was_never_released_may_change(repository: Repository) -> None:
    repository.git("tag", "--delete", "data/v1.2.0")
    repository.change("data", {})
    assert repository.release("data", "1.2.0") == 0
