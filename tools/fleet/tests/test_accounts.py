"""`fleet connect-account` against a service small enough for a test; services/data has the same tools for real."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
import uvicorn
from click.testing import CliRunner, Result
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fleet_cli import accounts
from fleet_cli.__main__ import main
from fleet_cli.engines.freeport import free_port
from fleet_cli.state import State

KEY = "rk_test_a-key-that-must-not-be-shown"
COLUMNS = ["provider", "state", "account", "scopes", "connected_by", "connected_at", "id"]
Fleet = Callable[..., Result]


class Service:
    """Keeps accounts; whoever opens a page has agreed by the second look."""

    def __init__(self) -> None:
        self.base = f"http://127.0.0.1:{free_port()}"
        self.rows: dict[str, list[Any]] = {"google": ["google", "open", None, [], None, None, None]}
        self.begun: dict[str, str] = {}
        self.looks = 0
        self.keys: list[str] = []
        self.revokes = True

    def app(self) -> Any:
        mcp: FastMCP[Any] = FastMCP("stand-in")
        mcp.tool(self.connector_connect)
        mcp.tool(self.connector_status)
        mcp.tool(self.connector_disconnect)
        mcp.custom_route("/oauth/stripe/callback", methods=["POST"])(self.take_key)
        return mcp.http_app(stateless_http=True)

    def connector_connect(self, provider: str) -> dict[str, Any]:
        if provider == "nowhere":
            raise ToolError("not_configured: there is no connector 'nowhere'")
        how = "browser" if provider in {"google", "plain"} else "key"
        self.begun[provider] = id_ = str(uuid4())
        base = "http://fleet.example.com" if provider == "slack" else self.base
        url = f"{base}/oauth/{provider}/callback?state={id_}"
        hint = None if how == "browser" else "A restricted key."
        return {
            "id": id_,
            "provider": provider,
            "how": how,
            "url": url,
            "expires_s": 0 if provider == "plain" else 30,
            "hint": hint,
        }

    def connector_status(self) -> str:
        self.looks += 1
        if "google" in self.begun and self.looks > 1:
            self.connect("google", "<untrusted>[red]ada@example.com</untrusted>")
        return json.dumps({"columns": COLUMNS, "rows": list(self.rows.values())})

    def connector_disconnect(self, provider: str) -> dict[str, Any]:
        return {"provider": provider, "account": "ada@example.com", "revoked": self.revokes}

    def connect(self, provider: str, label: str) -> None:
        at = "2026-11-21T10:00:00Z"
        self.rows[provider] = [
            provider, "connected", label, [], "key:ab12", at, self.begun[provider]]  # fmt: skip

    async def take_key(self, request: Request) -> Response:
        key = parse_qs((await request.body()).decode())["key"][0]
        if key != KEY:
            told = {"code": "invalid_input", "message": "not the key that is wanted", "hint": "rk_"}
            return JSONResponse(told, 400)
        self.keys.append(key)
        self.connect("stripe", "Example Ltd")
        return JSONResponse({"account": "Example Ltd"})


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    port = int(service.base.rpartition(":")[2])
    config = uvicorn.Config(service.app(), port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield service
    server.should_exit = True
    thread.join()


@pytest.fixture
def fleet(state: State, service: Service, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Runs a command; browsers open nothing but a list."""
    monkeypatch.setattr(accounts, "_POLL_S", 0.01)
    environment = {
        "FLEET_GATEWAY_PORT": service.base.rpartition(":")[2],
        "FLEET_KEY": "fleet_ab12_x",
    }

    def run(*words: str, **more: Any) -> Result:
        command = ["--project", str(state.project), *words]
        return CliRunner().invoke(main, command, env=environment, **more)

    return run


@pytest.mark.timeout(60)
def test_connecting_opens_the_page_waits_and_says_whose_account_it_is(
    fleet: Fleet, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    done = fleet("connect-account", "google")
    assert (done.exit_code, done.stdout) == (0, "Connected: [red]ada@example.com (google).\n")
    assert opened == [f"{service.base}/oauth/google/callback?state={service.begun['google']}"]
    assert opened[0] in done.stderr

    shown = fleet("accounts")
    assert "[red]ada@example.com" in shown.stdout  # text, and no markup of ours
    assert "untrusted" not in shown.stdout

    again = fleet("connect-account", "google", "--no-browser")
    assert again.exit_code == 0
    assert len(opened) == 1

    refused = fleet("connect-account", "nowhere")
    assert refused.exit_code == 1
    assert "no connector 'nowhere'" in refused.stderr

    late = fleet("connect-account", "plain", "--no-browser")
    assert late.exit_code == 1
    assert "Nobody finished" in late.stderr

    ended = fleet("disconnect-account", "google")
    assert ended.stdout == "Disconnected: ada@example.com (google).\n"
    service.revokes = False
    assert "did not confirm" in fleet("disconnect-account", "google").stderr


@pytest.mark.timeout(60)
def test_a_key_is_read_from_stdin_and_shown_nowhere(fleet: Fleet, service: Service) -> None:
    done = fleet("connect-account", "stripe", input=f"{KEY}\n")
    assert done.stdout == "Connected: Example Ltd (stripe).\n"
    assert service.keys == [KEY]

    wrong = fleet("connect-account", "stripe", input="sk_live_all-powerful\n")
    assert wrong.exit_code == 1
    assert "not the key that is wanted\nrk_" in wrong.stderr
    none = fleet("connect-account", "stripe", input="")
    assert "no key on stdin" in none.stderr
    plain = fleet("connect-account", "slack", input=f"{KEY}\n")
    assert "without encryption" in plain.stderr
    assert service.keys == [KEY]

    for each in (done, wrong, none, plain):
        assert KEY not in each.output
        assert "sk_live" not in each.output


def test_nobody_at_a_terminal_agrees_to_nothing() -> None:
    assert not accounts._asked("Disconnect?")
