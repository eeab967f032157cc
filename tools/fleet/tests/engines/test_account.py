from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet_cli.engines import account
from fleet_cli.engines.account import (
    create_account,
    engine_account,
    find_account,
    is_reachable,
    system_dir,
)
from fleet_cli.errors import EngineUnavailable

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user")


def test_a_normal_user_runs_the_engine_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert engine_account() is None


@as_root
@pytest.mark.timeout(30)
def test_root_gets_an_unprivileged_user() -> None:
    found = engine_account()

    assert found is not None
    assert found.uid != 0


@as_root
def test_without_useradd_an_existing_user_is_good_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "SYSTEM_USER", "fleet-no-such-user")
    monkeypatch.setenv("PATH", "")

    found = engine_account()

    assert found is not None
    assert found.name in {"postgres", "nobody"}


@as_root
def test_without_any_user_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "SYSTEM_USER", "fleet-no-such-user")
    monkeypatch.setattr(account, "FALLBACK_USERS", ())
    monkeypatch.setenv("PATH", "")

    with pytest.raises(EngineUnavailable, match="FLEET_DATA_DATABASE_URL"):
        engine_account()


def test_root_is_never_the_answer() -> None:
    assert find_account("root") is None
    assert find_account("fleet-no-such-user") is None


def test_no_user_is_created_without_useradd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert create_account("fleet-no-such-user") is None


def test_a_folder_is_reachable_only_through_open_ones(tmp_path: Path) -> None:
    inside = tmp_path / "closed" / "inside"
    inside.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)

    assert not is_reachable(inside)
    assert is_reachable(Path("/usr/bin"))


def test_the_system_folder_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_ENGINE_DIR", str(tmp_path / "engines"))

    assert system_dir() == tmp_path / "engines"
    assert system_dir().is_dir()
