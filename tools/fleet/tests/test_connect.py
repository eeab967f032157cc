from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from fleet_cli.connect import CLIENTS, Endpoint, config_for, write_config
from fleet_cli.errors import BadInput

KEY = "fleet_ab12cd34_secret"
URL = "http://127.0.0.1:8080/mcp"
KEY_URL = "http://127.0.0.1:8080/key/mcp"
HOSTED = {"claude", "chatgpt"}


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Endpoint("fleet", "gateway", URL, KEY, tmp_path)


def test_claude_code_names_the_type_and_reads_the_key_from_the_environment(
    endpoint: Endpoint,
) -> None:
    server = json.loads(config_for("claude-code", endpoint).text)["mcpServers"]["fleet"]

    assert server == {
        "type": "http",
        "url": KEY_URL,
        "headers": {"Authorization": "Bearer ${FLEET_KEY}"},
    }


def test_cursor_reads_the_key_from_the_environment(endpoint: Endpoint) -> None:
    server = json.loads(config_for("cursor", endpoint).text)["mcpServers"]["fleet"]

    assert server == {"url": KEY_URL, "headers": {"Authorization": "Bearer ${env:FLEET_KEY}"}}


def test_vscode_asks_for_the_key(endpoint: Endpoint) -> None:
    config = json.loads(config_for("vscode", endpoint).text)

    assert config["servers"]["fleet"]["headers"] == {"Authorization": "Bearer ${input:fleet-key}"}
    assert config["inputs"][0]["id"] == "fleet-key"
    assert config["inputs"][0]["password"] is True


def test_codex_gets_toml_that_names_the_variable(endpoint: Endpoint) -> None:
    section = tomllib.loads(config_for("codex", endpoint).text)["mcp_servers"]["fleet"]

    assert section == {"url": URL, "bearer_token_env_var": "FLEET_KEY"}


def test_claude_desktop_starts_the_services_over_stdio(endpoint: Endpoint) -> None:
    servers = json.loads(config_for("claude-desktop", endpoint).text)["mcpServers"]

    assert list(servers) == ["fleet-data", "fleet-devops", "fleet-aiml"]
    assert servers["fleet-data"]["args"][-2:] == ["stdio", "data"]


def test_claude_desktop_can_have_one_service(endpoint: Endpoint) -> None:
    one = Endpoint("fleet-data", "data", URL, KEY, endpoint.project)

    assert list(json.loads(config_for("claude-desktop", one).text)["mcpServers"]) == ["fleet-data"]


def test_the_openai_snippet_is_python(endpoint: Endpoint) -> None:
    text = config_for("openai", endpoint).text

    compile(text, "snippet", "exec")
    assert URL in text


def test_the_inspector_gets_one_command(endpoint: Endpoint) -> None:
    text = config_for("inspector", endpoint).text

    assert URL in text
    assert "--transport http" in text
    assert "$FLEET_KEY" in text


@pytest.mark.parametrize("client", sorted(set(CLIENTS) - {"json"} - HOSTED))
def test_only_plain_json_holds_the_key_itself(endpoint: Endpoint, client: str) -> None:
    assert KEY not in config_for(client, endpoint).text
    assert KEY in config_for("json", endpoint).text


@pytest.mark.parametrize("client", sorted(HOSTED))
def test_a_hosted_client_gets_the_public_url(endpoint: Endpoint, client: str) -> None:
    public = replace(endpoint, public_url="https://mcp.example.com/")

    assert config_for(client, public).text == "https://mcp.example.com/mcp"


@pytest.mark.parametrize("client", sorted(HOSTED))
def test_a_hosted_client_cannot_reach_a_laptop(endpoint: Endpoint, client: str) -> None:
    with pytest.raises(BadInput) as refusal:
        config_for(client, endpoint)

    assert "FLEET_GATEWAY_PUBLIC_URL" in str(refusal.value.hint)


def test_an_unknown_client_is_answered_with_the_known_ones(endpoint: Endpoint) -> None:
    with pytest.raises(BadInput, match="cursor"):
        config_for("netscape", endpoint)


def test_writing_keeps_what_is_there(endpoint: Endpoint) -> None:
    path = endpoint.project / ".mcp.json"
    path.write_text('{"mcpServers": {"other": {"url": "x"}}, "more": 1}')

    assert write_config(config_for("claude-code", endpoint)) == path

    found = json.loads(path.read_text())
    assert set(found["mcpServers"]) == {"other", "fleet"}
    assert found["more"] == 1


def test_writing_twice_changes_nothing(endpoint: Endpoint) -> None:
    config = config_for("vscode", endpoint)
    path = write_config(config)
    once = path.read_text()

    write_config(config)

    assert path.read_text() == once


def test_writing_follows_a_link_into_the_dotfiles(endpoint: Endpoint, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_text("{}")
    (endpoint.project / ".mcp.json").symlink_to(real)

    write_config(config_for("claude-code", endpoint))

    assert (endpoint.project / ".mcp.json").is_symlink()
    assert "fleet" in real.read_text()


@pytest.mark.parametrize("text", ["// comment\n{}", "[]"])
def test_a_file_that_is_not_plain_json_is_left_alone(endpoint: Endpoint, text: str) -> None:
    path = endpoint.project / ".mcp.json"
    path.write_text(text)

    with pytest.raises(BadInput, match="by hand"):
        write_config(config_for("claude-code", endpoint))

    assert path.read_text() == text


def test_codex_is_added_once_and_stays_valid(endpoint: Endpoint) -> None:
    path = Path.home() / ".codex" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text('model = "x"')
    config = config_for("codex", endpoint)

    write_config(config)

    found = tomllib.loads(path.read_text())
    assert found["model"] == "x"
    assert found["mcp_servers"]["fleet"]["url"] == URL
    with pytest.raises(BadInput, match="already"):
        write_config(config)


def test_a_broken_codex_file_is_left_alone(endpoint: Endpoint) -> None:
    path = Path.home() / ".codex" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("model = ")

    with pytest.raises(BadInput, match="TOML"):
        write_config(config_for("codex", endpoint))

    assert path.read_text() == "model = "


def test_a_snippet_belongs_in_no_file(endpoint: Endpoint) -> None:
    with pytest.raises(BadInput, match="paste"):
        write_config(config_for("openai", endpoint))
