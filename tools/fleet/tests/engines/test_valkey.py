from __future__ import annotations

import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet_cli.engines.freeport import free_port
from fleet_cli.engines.valkey import Valkey
from fleet_cli.errors import StartFailed

pytestmark = pytest.mark.timeout(30)
Eventually = Callable[..., None]


@pytest.fixture
def valkey(tmp_path: Path) -> Valkey:
    home = tmp_path / "with a space" / "server"
    return Valkey(home=home, port=free_port(), password="secret", log=tmp_path / "valkey.log")


def say(server: Valkey, *commands: str, password: str = "secret") -> str:
    """Return what the server answers to inline commands after AUTH, up to its QUIT."""
    lines = [f"AUTH {password}", *commands, "QUIT"]
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


def test_it_answers_on_loopback_with_the_password_only(valkey: Valkey) -> None:
    child = valkey.start()
    try:
        assert "+PONG" in say(valkey, "PING")
        assert "WRONGPASS" in say(valkey, password="wrong")
        assert "bind\r\n$9\r\n127.0.0.1" in say(valkey, "CONFIG GET bind")
    finally:
        child.stop()


def test_the_password_is_in_a_private_file_and_not_on_the_command_line(valkey: Valkey) -> None:
    child = valkey.start()
    try:
        config = valkey.home / "valkey.conf"
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert "secret" not in Path(f"/proc/{child.popen.pid}/cmdline").read_text()
        assert "secret" not in repr(valkey)
    finally:
        child.stop()


def test_what_was_written_survives_a_restart_and_kill_9(valkey: Valkey) -> None:
    first = valkey.start()
    say(valkey, "SET lamp 7")
    first.stop()
    second = valkey.start()
    assert "7" in say(valkey, "GET lamp")
    say(valkey, "SET lamp 8", "WAITAOF 1 0 2000")
    second.popen.kill()
    second.popen.wait()

    third = valkey.start()
    try:
        assert "8" in say(valkey, "GET lamp")
    finally:
        third.stop()


def test_a_start_that_fails_quotes_the_server(valkey: Valkey) -> None:
    with (
        socket.create_server(("127.0.0.1", valkey.port)),
        pytest.raises(StartFailed, match=r"(?i)already in use|bind"),
    ):
        valkey.start()


def test_a_server_that_is_not_ready_in_time_is_stopped(
    valkey: Valkey, eventually: Eventually
) -> None:
    with pytest.raises(StartFailed, match="not ready in time"):
        valkey.start(deadline_s=0.0)

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", valkey.port)) != 0

    eventually(refused)
