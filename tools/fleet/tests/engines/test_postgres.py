from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from fleet_cli.engines.account import engine_account, is_reachable
from fleet_cli.engines.freeport import free_port
from fleet_cli.engines.postgres import Postgres, dsn, read_postmaster
from fleet_cli.errors import StartFailed
from fleet_cli.processes import Child, ProcessRecord

pytestmark = pytest.mark.timeout(60)
Eventually = Callable[..., None]


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A server that has not started; in a folder its own user can reach, which tmp_path is not."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-engine-"))
    folder.chmod(0o711)
    yield Postgres(
        home=folder / "server",
        port=free_port(),
        password="p@ss/wörd",
        log=folder / "postgres.log",
    )
    shutil.rmtree(folder)


@contextmanager
def started(server: Postgres) -> Iterator[Child]:
    child = server.start()
    try:
        yield child
    finally:
        child.stop()


async def query(server: Postgres, sql: str) -> Any:
    connection = await asyncpg.connect(server.url(), timeout=10)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_it_is_postgresql_18_with_a_password_on_loopback(postgres: Postgres) -> None:
    with started(postgres):
        assert str(await query(postgres, "SHOW server_version")).startswith("18")
        assert await query(postgres, "SHOW listen_addresses") == "127.0.0.1"
        assert await query(postgres, "SHOW fsync") == "on"
        assert await query(postgres, "SHOW server_encoding") == "UTF8"
        assert await query(postgres, "SELECT upper('ä')") == "Ä"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(dsn("postgres", "wrong", postgres.port, "postgres"))


async def test_it_never_runs_as_root_and_its_data_is_closed(postgres: Postgres) -> None:
    with started(postgres) as child:
        assert psutil.Process(child.popen.pid).uids().effective != 0
        assert postgres.data.stat().st_mode & 0o077 == 0
        assert not (postgres.home / "password").exists()


async def test_data_survives_kill_9(postgres: Postgres) -> None:
    child = postgres.start()
    await query(postgres, "CREATE TABLE lamps AS SELECT 7 AS price")
    child.popen.kill()
    child.popen.wait()
    assert (postgres.data / "postmaster.pid").exists()

    with started(postgres):
        assert await query(postgres, "SELECT price FROM lamps") == 7


async def test_an_orphaned_server_is_ended_before_the_next_starts(postgres: Postgres) -> None:
    orphan = postgres.start()

    with started(postgres) as second:
        assert orphan.popen.wait(5) == 0
        assert await query(postgres, "SELECT 1") == 1
        assert second.popen.pid != orphan.popen.pid


def test_a_pid_file_that_names_a_stranger_is_only_removed(
    postgres: Postgres, spawn: Callable[..., Child]
) -> None:
    with started(postgres):
        pass
    stranger = spawn("import time; time.sleep(60)", "stranger")
    pid_file = postgres.data / "postmaster.pid"
    pid_file.write_text(f"{stranger.popen.pid}\n{postgres.data}\n1\n{postgres.port}\n")

    with started(postgres):
        found = read_postmaster(pid_file)
        assert found is not None
        assert found.pid != stranger.popen.pid

    assert stranger.is_alive


async def test_an_initdb_that_was_cut_off_is_repeated(postgres: Postgres) -> None:
    draft = postgres.home / "data.draft"
    draft.mkdir(parents=True)
    (draft / "half").touch()

    with started(postgres):
        assert await query(postgres, "SELECT 1") == 1
    assert not draft.exists()


async def test_stopping_is_quick_although_somebody_is_connected(postgres: Postgres) -> None:
    child = postgres.start()
    connection = await asyncpg.connect(postgres.url())

    child.stop(grace_s=8)

    assert child.popen.poll() == 0
    assert not (postgres.data / "postmaster.pid").exists()
    connection.terminate()


def test_a_start_that_fails_quotes_the_server(postgres: Postgres) -> None:
    with started(postgres):
        pass
    (postgres.data / "postgresql.conf").write_text("no_such_setting = 1\n")

    with pytest.raises(StartFailed, match="no_such_setting"):
        postgres.start()


def test_a_server_that_is_not_ready_in_time_is_stopped(postgres: Postgres) -> None:
    with started(postgres):
        pass
    children: list[Child] = []

    with pytest.raises(StartFailed, match="not ready in time"):
        postgres.start(deadline_s=0.0, adopt=children.append)

    assert not children[-1].is_alive


def test_an_initdb_that_fails_is_quoted(postgres: Postgres) -> None:
    with pytest.raises(StartFailed, match="initdb"):
        postgres.start(deadline_s=0.0)

    assert not postgres.data.exists()


def test_the_pid_file_tells_pid_and_start_time(postgres: Postgres, tmp_path: Path) -> None:
    with started(postgres) as child:
        found = read_postmaster(postgres.data / "postmaster.pid")
        assert found is not None
        assert found.pid == child.popen.pid
        assert found.process() is not None

    assert read_postmaster(tmp_path / "none") is None
    (tmp_path / "cut").write_text("17\n/data\n")
    assert read_postmaster(tmp_path / "cut") is None


async def test_a_killed_child_leaves_no_backends_behind(
    postgres: Postgres, eventually: Eventually
) -> None:
    child = postgres.start()
    connection = await asyncpg.connect(postgres.url())
    backend = ProcessRecord.of(connection.get_server_pid())
    assert backend is not None

    os.kill(child.popen.pid, signal.SIGKILL)

    eventually(lambda: backend.process() is None)
    child.popen.wait()
    connection.terminate()


AS_SOMEBODY = """
import os, sys
from pathlib import Path
from fleet_cli.engines.postgres import Postgres
from fleet_cli.engines.valkey import Valkey
from fleet_cli.processes import ProcessRecord

home, ports = Path(sys.argv[1]), [int(port) for port in sys.argv[2:]]
servers = [
    Postgres(home=home / "postgres", port=ports[0], password="pw", log=home / "p.log").start(),
    Valkey(home=home / "valkey", port=ports[1], password="pw", log=home / "v.log").start(),
]
users = {server.record.process().uids().real for server in servers}
for server in servers:
    server.stop()
print(users == {os.getuid()}, os.getuid() != 0)
"""


def reachable_python() -> str | None:
    """Return our interpreter, or the system's of the same version when ours is in root's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for found in (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin")):
        if found and is_reachable(Path(found).resolve().parent):
            return found
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test runs as a normal user then")
def test_a_normal_user_starts_engines_of_his_own(tmp_path: Path) -> None:
    account = engine_account()
    assert account is not None
    python = reachable_python()
    if python is None:
        pytest.skip("no Python 3.11 that another user may run")
    home = Path(tempfile.mkdtemp(prefix="fleet-engine-"))
    os.chown(home, account.uid, account.gid)
    try:
        done = subprocess.run(
            [python, "-c", AS_SOMEBODY, str(home), str(free_port()), str(free_port())],
            env={"HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            cwd=home,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "True True\n", done.stderr
    finally:
        shutil.rmtree(home)
