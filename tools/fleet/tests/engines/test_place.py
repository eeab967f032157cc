from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet_cli.engines.place import postgres_place


@pytest.fixture
def engine_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEET_ENGINE_DIR", str(tmp_path / "engines"))
    return tmp_path / "engines"


@pytest.fixture
def state_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / ".fleet"
    folder.mkdir(parents=True)
    return folder


def as_uid(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def test_a_normal_users_database_is_in_the_project(
    state_folder: Path, engine_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_uid(monkeypatch, 1000)

    assert postgres_place(state_folder) == state_folder / "postgres"
    assert not engine_dir.exists()


def test_roots_database_is_elsewhere_and_the_project_points_to_it(
    state_folder: Path, engine_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_uid(monkeypatch, 0)

    place = postgres_place(state_folder)

    assert place.parent == engine_dir
    assert (state_folder / "postgres").resolve() == place
    assert place.stat().st_mode & 0o001
    assert postgres_place(state_folder) == place


def test_a_project_that_starts_afresh_clears_what_it_left(
    state_folder: Path, engine_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_uid(monkeypatch, 0)
    before = postgres_place(state_folder)
    (before / "server" / "data").mkdir(parents=True)
    (before / "server" / "data" / "postmaster.pid").write_text("999999\n/data\n1\n")
    other = engine_dir / "0000000000000000-other"
    other.mkdir()
    (state_folder / "postgres").unlink()

    after = postgres_place(state_folder)

    assert after != before
    assert not before.exists()
    assert other.exists()
