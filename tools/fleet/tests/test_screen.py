"""What `fleet run` ends with is there to be copied: each line must survive that."""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fleet_cli.ports import SERVICES, plan_ports
from fleet_cli.screen import Screen, fleet_command

KEY = "fleet_0123abcd_" + "s" * 43


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The screen on a terminal of 80 columns, as after `make run` in a checkout."""
    (tmp_path / ".fleet").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    file = io.StringIO()
    screen = Screen(
        project=tmp_path,
        ports=plan_ports(8080, {}),
        key=KEY,
        took_s=4.2,
        warnings=("The documents are not searchable: busy",),
    )
    screen.show(Console(file=file, width=80))
    return file.getvalue()


def test_each_service_has_its_url(shown: str) -> None:
    for number, service in enumerate(SERVICES):
        assert any(
            service in line and f"http://127.0.0.1:{8080 + number}/mcp" in line
            for line in shown.splitlines()
        )


def test_the_key_stays_on_one_line(shown: str) -> None:
    assert f"  key      {KEY}" in shown.splitlines()


def test_the_config_is_json_as_it_stands(shown: str) -> None:
    start, end = shown.index("\n{\n"), shown.index("\n}\n") + 2

    server = json.loads(shown[start:end])["mcpServers"]["fleet"]

    assert server["type"] == "http"
    assert server["url"] == "http://127.0.0.1:8080/key/mcp"
    assert server["headers"] == {"Authorization": f"Bearer {KEY}"}


def test_the_suggested_call_is_one_line_that_a_shell_understands(shown: str) -> None:
    line = next(line for line in shown.splitlines() if " call crm_search " in line)

    words = shlex.split(line)

    arguments = json.loads(words[words.index("crm_search") + 1])
    assert arguments["object"] in {"contact", "company", "deal"}


def test_commands_fit_eighty_columns(shown: str) -> None:
    commands = [line for line in shown.splitlines() if ".venv/bin/fleet" in line]

    assert len(commands) >= 3
    assert all(len(line.rstrip()) <= 80 for line in commands)


def test_warnings_and_the_way_out_come_last(shown: str) -> None:
    assert "! The documents are not searchable: busy" in shown
    assert shown.rstrip().endswith("Ctrl-C stops everything.")


class TestFleetCommand:
    @pytest.fixture
    def project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        project = tmp_path / "my project"
        (project / ".fleet").mkdir(parents=True)
        binaries = project / ".venv" / "bin"
        binaries.mkdir(parents=True)
        (binaries / "fleet").write_text("#!/bin/sh\n")
        (binaries / "fleet").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(binaries / "python"))
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        return project

    def test_is_a_short_path_in_a_checkout(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(project)

        assert fleet_command(project) == ".venv/bin/fleet"

    def test_is_its_name_where_the_path_finds_it(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(project)
        monkeypatch.setenv("PATH", str(project / ".venv" / "bin"))

        assert fleet_command(project) == "fleet"

    def test_names_the_project_from_anywhere_else(
        self, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")

        words = shlex.split(fleet_command(project))

        assert words == [str(project / ".venv/bin/fleet"), "--project", str(project)]
