"""PostgreSQL 18 from a wheel: TCP on loopback, scram password, the same asyncpg path as production.

`initdb` runs once into a draft folder that is renamed when complete, so a start that was cut off is
simply repeated. `postgres` is our direct child: no pg_ctl, no daemon. It is ready when it says so
in postmaster.pid (line 8), the way pg_ctl finds out. What an earlier postmaster left behind is
found through the same file: line 1 is its pid, line 3 its start time, and only a process that
matches both is ever signalled. After a kill -9 the files are recovered by PostgreSQL itself; a
postmaster that has died may still have backends holding its shared memory for a moment, hence the
retry.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from fleet_cli.engines.account import engine_account
from fleet_cli.engines.binaries import postgres_bin
from fleet_cli.errors import StartFailed
from fleet_cli.processes import POLL_S, Account, Adopt, Child, ProcessRecord, nobody_adopts

SUPERUSER = "postgres"
_STILL_IN_USE = "still in use"

_COMMON = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "log_line_prefix": "%m [%p] ",
    "jit": "off",
}
# A test database is thrown away: nothing is worth a disk flush.
_VOLATILE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_wal_size": "512MB",
}


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """One server: where it keeps its data, on which port it listens and who may log in.

    Attributes:
        home: folder of its own; the server's user must be able to reach it.
        durable: flush to disk as production does; off for tests.
        log: file that receives what the server writes.
    """

    home: Path
    port: int
    password: str = field(repr=False)
    log: Path
    durable: bool = True

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "data"

    def url(self, database: str = "postgres") -> str:
        """Return the superuser's DSN for one database."""
        return dsn(SUPERUSER, self.password, self.port, database)

    def start(self, *, deadline_s: float = 30.0, adopt: Adopt = nobody_adopts) -> Child:
        """Return the running server, ready for connections.

        Raises:
            StartFailed: it ended or was not ready within `deadline_s` seconds.
            EngineUnavailable: there are no binaries, or no user to run as.
        """
        until = time.monotonic() + deadline_s
        account = engine_account()
        binaries = postgres_bin(account)
        self._prepare(account)
        if not self.data.exists():
            self._initialise(binaries, account, until, adopt)
        self._end_leftover()
        return self._launch(binaries, account, until, adopt)

    def _prepare(self, account: Account | None) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account is not None:
            os.chown(self.home, account.uid, account.gid)

    def _initialise(
        self, binaries: Path, account: Account | None, until: float, adopt: Adopt
    ) -> None:
        draft, secret = self.home / "data.draft", self.home / "password"
        shutil.rmtree(draft, ignore_errors=True)
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if account is not None:
            os.chown(secret, account.uid, account.gid)
        command = [str(binaries / "initdb"), "-D", str(draft), "-U", SUPERUSER]
        command += [f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8"]
        # The built-in provider sorts and folds case the same on every system, with no ICU and no
        # libc locale.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command += ["--no-instructions", "--no-sync"]
        try:
            initdb = Child.start("initdb", command, log=self.log, cwd=self.home, account=account)
            adopt(initdb)
            _wait_end(initdb, until)
        finally:
            secret.unlink()
        draft.rename(self.data)

    def _end_leftover(self) -> None:
        pid_file = self.data / "postmaster.pid"
        postmaster = read_postmaster(pid_file)
        if postmaster is None or not postmaster.end(signal.SIGINT, grace_s=10):
            # The pid may belong to another process by now, which PostgreSQL would take for a
            # running server.
            pid_file.unlink(missing_ok=True)

    def _launch(self, binaries: Path, account: Account | None, until: float, adopt: Adopt) -> Child:
        options = _COMMON | {"port": str(self.port)} | ({} if self.durable else _VOLATILE)
        command = [str(binaries / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        while True:
            server = Child.start(
                "postgres",
                command,
                log=self.log,
                cwd=self.home,
                account=account,
                stop_signal=signal.SIGINT,  # "fast": ends sessions, then shuts down cleanly
            )
            adopt(server)
            if self._wait_ready(server, until):
                return server
            if _STILL_IN_USE not in server.last_words() or time.monotonic() > until:
                raise StartFailed("PostgreSQL did not start:\n" + server.last_words())
            time.sleep(0.2)

    def _wait_ready(self, server: Child, until: float) -> bool:
        """Return whether the server is ready; False when it ended."""
        pid_file = self.data / "postmaster.pid"
        while server.is_alive:
            lines = _lines(pid_file)
            if len(lines) >= 8 and lines[0] == str(server.popen.pid) and lines[7] == "ready":
                return True
            if time.monotonic() > until:
                server.stop(grace_s=2)
                raise StartFailed("PostgreSQL was not ready in time:\n" + server.last_words())
            time.sleep(POLL_S)
        return False


def dsn(user: str, password: str, port: int, database: str) -> str:
    """Return a PostgreSQL URL on loopback; without TLS, so that no driver prepares for it in vain."""
    login = f"{quote(user)}:{quote(password, safe='')}"
    return f"postgresql://{login}@127.0.0.1:{port}/{quote(database)}?sslmode=disable"


def read_postmaster(pid_file: Path) -> ProcessRecord | None:
    """Return the postmaster that wrote a postmaster.pid; None if there is no such file or it is cut off."""
    lines = _lines(pid_file)
    if len(lines) < 3 or not lines[0].isdigit() or not lines[2].isdigit():
        return None
    # The file holds whole seconds, written shortly after the start: half a second centres the
    # error.
    return ProcessRecord(int(lines[0]), int(lines[2]) + 0.5)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines()]
    except FileNotFoundError:
        return []


def _wait_end(initdb: Child, until: float) -> None:
    try:
        code = initdb.popen.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        initdb.stop(grace_s=1)
        raise StartFailed("initdb did not finish in time:\n" + initdb.last_words()) from None
    if code:
        raise StartFailed("initdb failed:\n" + initdb.last_words())
