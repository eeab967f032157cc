"""Valkey from a wheel: loopback, password, append-only file, so that queues and limits survive a restart.

The password sits in a 0600 configuration file, never on the command line. The server is ready when
it answers PING with PONG after AUTH; while it replays the append-only file it answers LOADING.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from fleet_cli.engines.binaries import valkey_server
from fleet_cli.errors import StartFailed
from fleet_cli.processes import POLL_S, Adopt, Child, nobody_adopts


@dataclass(frozen=True, kw_only=True)
class Valkey:
    """One server: where it keeps its data, on which port it listens and its password.

    Attributes:
        home: folder of its own.
        durable: keep an append-only file, flushed every second; off for tests.
        log: file that receives what the server writes.
    """

    home: Path
    port: int
    password: str = field(repr=False)
    log: Path
    durable: bool = True

    @property
    def url(self) -> str:
        """The URL with the password, database 0."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self, *, deadline_s: float = 15.0, adopt: Adopt = nobody_adopts) -> Child:
        """Return the running server, ready for commands.

        Raises:
            StartFailed: it ended or was not ready within `deadline_s` seconds.
            EngineUnavailable: there is no binary.
        """
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [str(valkey_server()), str(self._configure())]
        server = Child.start("valkey", command, log=self.log, cwd=self.home)
        adopt(server)
        self._wait_ready(server, time.monotonic() + deadline_s)
        return server

    def _configure(self) -> Path:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self.password,
            "dir": f'"{self.home}"',
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "save": '""',
            "daemonize": "no",
            "databases": "16",
        }
        path = self.home / "valkey.conf"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.writelines(f"{name} {value}\n" for name, value in settings.items())
        return path

    def _wait_ready(self, server: Child, until: float) -> None:
        while not self._answers():
            if not server.is_alive:
                raise StartFailed("Valkey did not start:\n" + server.last_words())
            if time.monotonic() > until:
                server.stop(grace_s=1)
                raise StartFailed("Valkey was not ready in time:\n" + server.last_words())
            time.sleep(POLL_S)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                replies = b""
                while replies.count(b"\r\n") < 2:
                    part = connection.recv(256)
                    if not part:
                        return False
                    replies += part
        except OSError:
            return False
        return replies == b"+OK\r\n+PONG\r\n"
