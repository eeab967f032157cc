"""`fleet approve` against a gateway small enough for a test; tests/e2e holds it against the real one."""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fleet_cli.__main__ import main
from fleet_cli.engines.freeport import free_port
from fleet_cli.secrets import ensure_secrets
from fleet_cli.state import State
from fleet_common.testing.terminal import at_a_terminal

KEY = "fleet_0badcafe_a-persons-key"


def waiting(id_: str, **more: Any) -> dict[str, Any]:
    """Return a call that waits, as the gateway's JSON."""
    return {
        "id": id_,
        "nonce": "n1",
        "lines": ["Delete the contact [red]Ada[/red]", "email: ada@example.com"],
        "tool": "crm_delete",
        "subject": "key:agent",
        "tenant": "demo",
        "second_person": False,
        "expires_at": (datetime.now(UTC) + timedelta(seconds=240)).isoformat(),
        **more,
    }


class Office:
    """A gateway with one call that waits; remembers what it was told."""

    def __init__(self) -> None:
        self.url = ""
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.found = {"abc": waiting("abc")}

    def answer(self, method: str, path: str, key: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if key != f"Bearer {KEY}":
            return 401, {"error": {"message": "approving needs a valid fleet key"}}
        id_ = path.removeprefix("/approve").strip("/")
        if not id_:
            return 200, {"approvals": list(self.found.values())}
        if id_ not in self.found:
            return 404, {
                "error": {"message": f"approval {id_} not found", "hint": "It has expired"}
            }
        if method == "POST":
            self.told.append((id_, json.loads(body)))
        return 200, self.found[id_]


@pytest.fixture
def office() -> Iterator[Office]:
    office = Office()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            key = self.headers["authorization"]
            status, told = office.answer(self.command, self.path, key, self.rfile.read(length))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    office.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, name="office")
    thread.start()
    yield office
    server.shutdown()
    thread.join()
    server.server_close()


def command(state: State, *words: str) -> list[str]:
    return [sys.executable, "-m", "fleet_cli", "--project", str(state.project), "approve", *words]


def typed(state: State, *words: str, key: str = KEY) -> Result:
    """Run `fleet approve WORDS` without a terminal."""
    command = ["--project", str(state.project), "approve", *words]
    env = {"FLEET_APPROVER_KEY": key, "COLUMNS": "200"}
    return CliRunner(env=env).invoke(main, command, catch_exceptions=False)


def asked(state: State, *words: str, answer: str) -> tuple[int, str]:
    """Run `fleet approve WORDS` as a person does."""
    env = {**os.environ, "FLEET_APPROVER_KEY": KEY}
    return at_a_terminal(command(state, *words), answer=answer, env=env)


def test_what_waits_is_listed_with_its_whole_id_and_no_markup(state: State, office: Office) -> None:
    office.found["x" * 32] = waiting("x" * 32)

    for words in ((), ("--list",)):
        listed = typed(state, *words, "--gateway", office.url)
        assert "x" * 32 in listed.stdout
        assert "Delete the contact [red]Ada[/red]" in listed.stdout
        assert "key:agent" in listed.stdout


def test_a_person_sees_the_call_and_says_yes(state: State, office: Office) -> None:
    status, shown = asked(state, "abc", "--gateway", office.url, answer="y")

    assert status == 0
    assert "email: ada@example.com" in shown
    assert "Asked for by key:agent with crm_delete." in shown
    assert office.told == [("abc", {"nonce": "n1", "verdict": "approved"})]


def test_anything_but_a_yes_decides_nothing(state: State, office: Office) -> None:
    status, shown = asked(state, "abc", "--gateway", office.url, answer="")

    assert (status, office.told) == (1, [])
    assert "Nothing was decided" in shown


def test_without_a_terminal_nobody_can_say_yes(state: State, office: Office) -> None:
    done = typed(state, "abc", "--gateway", office.url)

    assert (done.exit_code, office.told) == (1, [])
    assert "needs a person at a terminal" in done.stderr


def test_a_no_needs_no_terminal(state: State, office: Office) -> None:
    assert typed(state, "abc", "--deny", "--gateway", office.url).exit_code == 0
    assert office.told == [("abc", {"nonce": "n1", "verdict": "denied"})]


def test_what_the_gateway_refuses_is_a_sentence(state: State, office: Office) -> None:
    gone = typed(state, "../gone", "--deny", "--gateway", office.url)
    assert (gone.exit_code, "not found" in gone.stderr) == (1, True)
    assert "It has expired" in gone.stderr

    wrong = typed(state, "--gateway", office.url, key="fleet_x_y")
    assert "approving needs a valid fleet key" in wrong.stderr

    away = typed(state, "--gateway", f"http://127.0.0.1:{free_port()}")
    assert "could not be asked" in away.stderr


def test_the_key_of_the_people_here_is_used_and_must_exist(state: State) -> None:
    never = typed(state, key="")
    assert "has no key yet" in never.stderr

    ensure_secrets(state)
    away = typed(state, "--gateway", f"http://127.0.0.1:{free_port()}", key="")
    assert "could not be asked" in away.stderr
