from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import changelog_gate

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


class Repository:
    """A repository with one package and one commit in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "--quiet", "--initial-branch", "main")
        self.write(
            "services/data/pyproject.toml", '[project]\nname = "fleet-data"\nversion = "0.1.0"\n'
        )
        self.write("services/data/src/fleet_data/__init__.py", '"""Data."""\n')
        self.write("services/data/CHANGELOG.md", "## Unreleased\n")
        self.commit("data: begin")

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def commit(self, message: str) -> None:
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", message)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.delenv("BASE", raising=False)
    return Repository(tmp_path)


def test_source_without_a_changelog_line_is_refused(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("services/data/src/fleet_data/crm.py", "LIMIT = 5\n")
    repository.commit("data: limit")
    assert changelog_gate.main(repository.root) == 1
    assert "services/data/CHANGELOG.md says nothing about" in capsys.readouterr().out


def test_source_with_a_changelog_line_passes(repository: Repository) -> None:
    repository.write("services/data/src/fleet_data/crm.py", "LIMIT = 5\n")
    repository.write("services/data/CHANGELOG.md", "## Unreleased\n\n- A limit.\n")
    repository.commit("data: limit")
    assert changelog_gate.main(repository.root) == 0


def test_a_commit_that_gives_a_reason_passes(repository: Repository) -> None:
    repository.write("services/data/src/fleet_data/crm.py", "LIMIT = 5\n")
    repository.commit("data: rename a constant\n\nNo-Changelog: nobody can notice")
    assert changelog_gate.main(repository.root) == 0


def test_a_reason_of_one_commit_does_not_excuse_another(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.git("branch", "start")
    repository.write("services/data/src/fleet_data/crm.py", "LIMIT = 5\n")
    repository.commit("data: limit")
    repository.write("services/data/src/fleet_data/crm.py", "LIMIT = 6\n")
    repository.commit("data: rename\n\nNo-Changelog: nobody can notice")
    monkeypatch.setenv("BASE", "start")
    assert changelog_gate.main(repository.root) == 1


def test_tests_alone_need_no_line(repository: Repository) -> None:
    repository.write("services/data/tests/test_crm.py", "X = 1\n")
    repository.commit("data: test the limit")
    assert changelog_gate.main(repository.root) == 0


def test_without_a_history_there_is_nothing_to_refuse(tmp_path: Path) -> None:
    assert changelog_gate.main(tmp_path) == 0
