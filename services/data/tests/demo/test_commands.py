from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from fleet_common.settings import SettingsError
from fleet_data.demo.commands import seed_command, tenant_command
from fleet_data.settings import Settings


def value(url: str, sql: str) -> Any:
    async def fetch() -> Any:
        connection = await asyncpg.connect(url, ssl=False)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def test_seeding_twice_seeds_once(
    settings: Settings, admin_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert seed_command(settings, []) == 0
    assert "2000 contacts" in capsys.readouterr().out
    before = value(admin_url, "SELECT count(*) FROM store.change_log")
    assert seed_command(settings, []) == 0
    assert capsys.readouterr().out == "tenant demo: already seeded\n"
    assert value(admin_url, "SELECT count(*) FROM store.change_log") == before
    history = "SELECT count(DISTINCT deal_id) FROM store.deal_stage_history"
    assert value(admin_url, history) == 500


def test_failed_seeding_leaves_nothing(
    settings: Settings, admin_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value(admin_url, "ALTER TABLE store.tasks ADD CONSTRAINT none CHECK (false)")
    assert seed_command(settings, []) == 1
    assert "fleet-data: invalid_input" in capsys.readouterr().err
    assert value(admin_url, "SELECT count(*) FROM store.contacts") == 0


def test_seeding_without_faker_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_data.demo.commands.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"fleet-data\[demo\]"):
        seed_command(settings, [])


def test_new_tenant_gets_a_pipeline_once(
    settings: Settings, admin_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tenant_command(settings, ["acme"]) == 0
    assert tenant_command(settings, ["acme"]) == 0
    assert value(admin_url, "SELECT count(*) FROM store.stages WHERE tenant = 'acme'") == 6
    assert capsys.readouterr().out == "tenant acme is there\n" * 2


def test_tenant_needs_a_name(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert tenant_command(settings, []) == 2
    assert "usage" in capsys.readouterr().err


def test_tenant_that_is_no_slug_is_refused(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tenant_command(settings, ["Bad Name"]) == 1
    assert "not a slug" in capsys.readouterr().err


def test_database_that_is_away_ends_with_a_sentence(
    make_settings: Callable[..., Settings],
    capsys: pytest.CaptureFixture[str],
    unused_tcp_port: int,
) -> None:
    settings = make_settings(f"postgresql://postgres:x@127.0.0.1:{unused_tcp_port}/x")
    assert seed_command(settings, []) == 1
    assert "database is not available" in capsys.readouterr().err
