from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

import pytest
import yaml
from pydantic import SecretStr

from fleet_common.settings import SettingsError
from fleet_gateway.registry.commands import registry_command
from fleet_gateway.registry.pins import Definition, FilePins
from fleet_gateway.server import SERVICE
from fleet_gateway.settings import Settings


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    settings: Settings


async def test_the_routing_table_of_the_running_services_is_printed(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "export",
        "--gateway",
        "shared",
        "--namespace",
        "tools",
        "--hostname",
        "mcp.example.com",
    ]
    status = await asyncio.to_thread(SERVICE.commands["routes"], fleet.settings, words)
    assert status == 0
    routes = {r["metadata"]["name"]: r for r in yaml.safe_load_all(capsys.readouterr().out)}
    assert set(routes) == {"fleet-data-0", "fleet-devops-0", "fleet-aiml-0", "fleet"}
    assert routes["fleet"]["spec"]["parentRefs"] == [{"name": "shared"}]
    assert routes["fleet"]["spec"]["hostnames"] == ["mcp.example.com"]
    (rule,) = routes["fleet-devops-0"]["spec"]["rules"]
    assert {"type": "Exact", "name": "Mcp-Name", "value": "gh_progress"} in rule["matches"][0][
        "headers"
    ]


def test_without_the_services_no_half_table_is_printed(
    tmp_path: Path, keypair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(
        keys_file=tmp_path / "keys.json",
        internal_private_key_file=keypair[0],
        services=("data=http://127.0.0.1:1",),
    )
    assert SERVICE.commands["routes"](settings, ["export"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "no answer from data" in printed.err


def test_a_held_tool_is_listed_and_accepted(
    tmp_path: Path, keypair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pins = FilePins(tmp_path / "pins.json")
    for digest in ("a" * 64, "b" * 64):
        asyncio.run(pins.judge("data", {Definition("1", "crm_get"): digest}))
    settings = Settings(internal_private_key_file=keypair[0], pins_file=tmp_path / "pins.json")
    assert registry_command(settings, ["list"]) == 0
    assert f"held: crm_get (version 1, sha256 {'b' * 64})" in capsys.readouterr().out
    assert registry_command(settings, ["accept", "data", "crm_get"]) == 0
    assert "1 definitions pinned, 0 held" in capsys.readouterr().out
    assert registry_command(settings, ["accept", "data", "crm_get"]) == 1
    assert "not_found" in capsys.readouterr().err


def test_without_a_place_for_pins_the_command_names_the_settings(
    keypair: tuple[Path, Path],
) -> None:
    settings = Settings(internal_private_key_file=keypair[0])
    with pytest.raises(SettingsError, match="FLEET_GATEWAY_PINS_FILE"):
        registry_command(settings, ["list"])


async def test_pins_in_redis_are_listed_and_accepted(
    keypair: tuple[Path, Path], redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(internal_private_key_file=keypair[0], redis_url=SecretStr(redis_url))
    assert await asyncio.to_thread(registry_command, settings, ["list"]) == 0
    away = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1")})
    assert await asyncio.to_thread(registry_command, away, ["list"]) == 1
    assert "unavailable: Redis" in capsys.readouterr().err
