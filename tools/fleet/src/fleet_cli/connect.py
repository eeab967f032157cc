"""The configuration each MCP client expects, with our URL in it and, where the client can, the key by reference.

Formats as the vendors document them in November 2026; `docs/connecting-clients.md` tells each client's story.
"""

from __future__ import annotations

import json
import shlex
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet_cli.errors import BadInput
from fleet_cli.state import write_private

KEY_VARIABLE = "FLEET_KEY"
_STDIO_SERVICES = ("data", "devops", "aiml")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a client connects to.

    Attributes:
        name: how the client lists the server, such as "fleet" or "fleet-data".
        service: the service behind the URL; "gateway" for all of them.
        public_url: base URL that clients on other networks use; None when there is none.
    """

    name: str
    service: str
    url: str
    key: str = field(repr=False)
    project: Path
    public_url: str | None = None

    @property
    def key_url(self) -> str:
        """Return the door for keys only, which knows no OAuth."""
        return f"{self.url.removesuffix('/mcp')}/key/mcp"


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What to show a person, and where it belongs.

    Attributes:
        text: the configuration itself, ready to paste.
        path: the file it belongs in; None for a command or a snippet.
        merge: what --write puts into a JSON file, beside what is there.
        append: what --write adds to the end of a text file.
        needs_key_variable: the configuration names FLEET_KEY instead of the key.
        note: one more sentence, when there is a trap.
    """

    text: str
    path: Path | None = None
    merge: dict[str, Any] | None = None
    append: str | None = None
    needs_key_variable: bool = False
    note: str | None = None


def config_for(client: str, endpoint: Endpoint) -> ClientConfig:
    """Return the configuration for one client.

    Raises:
        BadInput: the client is unknown.
    """
    if client not in CLIENTS:
        raise BadInput(f"{client!r} is not a client we know", hint=f"Known: {', '.join(CLIENTS)}")
    return CLIENTS[client](endpoint)


def write_config(config: ClientConfig) -> Path:
    """Put a configuration into its file, keeping everything else in there, and return the file.

    Raises:
        BadInput: it belongs in no file, or what is there cannot be merged with.
    """
    if config.path is None:
        raise BadInput("This client has no configuration file: paste the text instead")
    config.path.parent.mkdir(parents=True, exist_ok=True)
    # People link such files into a folder of dotfiles: the link stays, what it points to changes.
    target = config.path.resolve()
    if config.merge is not None:
        merged = _merged(_read_json(target), config.merge)
        write_private(target, json.dumps(merged, indent=2) + "\n")
    elif config.append is not None:
        _append_section(target, config.append)
    return config.path


def as_json(value: Any) -> str:
    """Return JSON as a person pastes it."""
    return json.dumps(value, indent=2)


def claude_code(endpoint: Endpoint, *, key: str | None = None) -> ClientConfig:
    """Return `.mcp.json`: `type` is required, and `${VAR}` is read from the environment.

    The door for keys: Claude Code looks for OAuth even when it has a header to send.
    """
    server = {
        "type": "http",
        "url": endpoint.key_url,
        "headers": _bearer(key or f"${{{KEY_VARIABLE}}}"),
    }
    return _json_file({"mcpServers": {endpoint.name: server}}, endpoint.project / ".mcp.json")


def _claude_desktop(endpoint: Endpoint) -> ClientConfig:
    chosen = _STDIO_SERVICES if endpoint.service == "gateway" else (endpoint.service,)
    command = str(Path(sys.executable).with_name("fleet"))
    project = ["--project", str(endpoint.project)]
    servers = {
        f"fleet-{service}": {"command": command, "args": [*project, "stdio", service]}
        for service in chosen
    }
    merge = {"mcpServers": servers}
    return ClientConfig(
        as_json(merge),
        path=_claude_desktop_file(),
        merge=merge,
        note="Desktop starts local servers itself, over stdio; keep `fleet run` running beside it. "
        "A public HTTPS deployment is added under Settings > Connectors instead, by its URL.",
    )


def _cursor(endpoint: Endpoint) -> ClientConfig:
    # The door for keys: Cursor leaves its headers out where it finds OAuth.
    server = {"url": endpoint.key_url, "headers": _bearer(f"${{env:{KEY_VARIABLE}}}")}
    path = endpoint.project / ".cursor" / "mcp.json"
    return _json_file({"mcpServers": {endpoint.name: server}}, path)


def _vscode(endpoint: Endpoint) -> ClientConfig:
    server = {"type": "http", "url": endpoint.url, "headers": _bearer("${input:fleet-key}")}
    prompt = {
        "type": "promptString",
        "id": "fleet-key",
        "description": "Fleet key",
        "password": True,
    }
    merge = {"servers": {endpoint.name: server}, "inputs": [prompt]}
    return ClientConfig(
        as_json(merge),
        path=endpoint.project / ".vscode" / "mcp.json",
        merge=merge,
        note="VS Code asks for the key once and keeps it in its secret storage.",
    )


def _codex(endpoint: Endpoint) -> ClientConfig:
    section = (
        f"[mcp_servers.{endpoint.name}]\n"
        f'url = "{endpoint.url}"\n'
        f'bearer_token_env_var = "{KEY_VARIABLE}"'
    )
    path = Path.home() / ".codex" / "config.toml"
    return ClientConfig(section, path=path, append=section, needs_key_variable=True)


def _openai(endpoint: Endpoint) -> ClientConfig:
    text = f'''import os

from openai import OpenAI

response = OpenAI().responses.create(
    model="gpt-5",
    tools=[
        {{
            "type": "mcp",
            "server_label": "{endpoint.name}",
            "server_url": "{endpoint.url}",
            "authorization": os.environ["{KEY_VARIABLE}"],
            "require_approval": "never",
        }}
    ],
    input="Which deals close this month?",
)
print(response.output_text)'''
    return ClientConfig(
        text,
        needs_key_variable=True,
        note="OpenAI calls the server from its own network: replace 127.0.0.1 by a public HTTPS URL.",
    )


def _hosted(name: str, where: str) -> Callable[[Endpoint], ClientConfig]:
    """Return the configuration of a client that comes from its vendor's network and signs in with OAuth."""

    def config(endpoint: Endpoint) -> ClientConfig:
        if endpoint.public_url is None:
            prefix = f"FLEET_{endpoint.service.upper()}"
            raise BadInput(
                f"{name} needs a public HTTPS URL with OAuth",
                hint=f"Set {prefix}_PUBLIC_URL and {prefix}_OAUTH_ISSUER; docs/connecting-clients.md says how.",
            )
        return ClientConfig(
            f"{endpoint.public_url.rstrip('/')}/mcp",
            note=f"Paste it under {where} and choose OAuth: {name} finds the rest and asks you to sign in.",
        )

    return config


def _inspector(endpoint: Endpoint) -> ClientConfig:
    command = (
        f"npx @modelcontextprotocol/inspector --cli {shlex.quote(endpoint.url)} --transport http "
        f'--header "Authorization: Bearer ${KEY_VARIABLE}" --method tools/list'
    )
    return ClientConfig(command, needs_key_variable=True)


def _plain_json(endpoint: Endpoint) -> ClientConfig:
    facts = {"name": endpoint.name, "url": endpoint.url, "headers": _bearer(endpoint.key)}
    return ClientConfig(as_json(facts))


CLIENTS: dict[str, Callable[[Endpoint], ClientConfig]] = {
    "claude-code": claude_code,
    "claude-desktop": _claude_desktop,
    "claude": _hosted("Claude", "Settings > Connectors > Add custom connector"),
    "chatgpt": _hosted("ChatGPT", "Settings > Connectors, in developer mode"),
    "cursor": _cursor,
    "vscode": _vscode,
    "codex": _codex,
    "openai": _openai,
    "inspector": _inspector,
    "json": _plain_json,
}


def _json_file(merge: dict[str, Any], path: Path) -> ClientConfig:
    return ClientConfig(as_json(merge), path=path, merge=merge, needs_key_variable=True)


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _claude_desktop_file() -> Path:
    if sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support" / "Claude"
    else:
        folder = Path.home() / ".config" / "Claude"
    return folder / "claude_desktop_config.json"


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadInput(f"{path} is not plain JSON: add the text by hand")
    return found


def _merged(current: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    merged = dict(current)
    for name, value in ours.items():
        before = merged.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            merged[name] = {**before, **value}
        elif isinstance(value, list) and isinstance(before, list):
            merged[name] = [*(item for item in before if item not in value), *value]
        else:
            merged[name] = value
    return merged


def _append_section(path: Path, section: str) -> None:
    current = path.read_text("utf-8") if path.exists() else ""
    heading = section.splitlines()[0]
    if heading in current:
        raise BadInput(f"{path} has a section {heading} already: change it by hand")
    gap = "" if not current else "\n" if current.endswith("\n") else "\n\n"
    text = f"{current}{gap}{section}\n"
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise BadInput(f"{path} would not be valid TOML: add the text by hand") from exc
    write_private(path, text)
