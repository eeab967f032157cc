"""What a reader copies must at least be valid."""

from __future__ import annotations

import json
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_the_example_client_asks_the_gateway_with_the_callers_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLEET_KEY", "fleet_ab12cd34_secret")
    monkeypatch.delenv("FLEET_URL", raising=False)
    example = runpy.run_path(str(EXAMPLES / "client.py"))
    client: Client[Any] = example["connect"]()
    # Any: the example is not a module, so its transport's type is unknown here.
    transport: Any = client.transport
    assert transport.url == "http://127.0.0.1:8080/mcp"
    assert transport.headers == {"Authorization": "Bearer fleet_ab12cd34_secret"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.name)
def test_json_configurations_hold_no_key(path: Path) -> None:
    config = json.loads(path.read_text("utf-8"))
    server = (config.get("mcpServers") or config["servers"])["fleet"]
    assert server["headers"]["Authorization"].startswith("Bearer ${")


def test_the_codex_configuration_reads_the_key_from_the_environment() -> None:
    config = tomllib.loads((EXAMPLES / "codex.config.toml").read_text("utf-8"))
    assert config["mcp_servers"]["fleet"]["bearer_token_env_var"] == "FLEET_KEY"
