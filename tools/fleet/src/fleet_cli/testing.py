"""Pytest plugin: a real PostgreSQL, Valkey and Qdrant for every package's tests.

Where they come from, in this order: a URL in the environment (`FLEET_TEST_POSTGRES_URL`, a
superuser's; `FLEET_TEST_REDIS_URL`; `FLEET_TEST_QDRANT_URL`), containers when `FLEET_TEST_ENGINES=docker`,
else the embedded engines; no package brings a Qdrant server. The same tests pass on each. An engine
starts on first use, one per pytest-xdist worker; what a killed test run left behind is ended and
removed by the next one, by pid and start time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from fleet_cli.engines.freeport import free_port
from fleet_cli.engines.postgres import Postgres
from fleet_cli.engines.valkey import Valkey
from fleet_cli.processes import Child, ProcessRecord

POSTGRES_IMAGE = "pgvector/pgvector:pg18"
VALKEY_IMAGE = "valkey/valkey:9"
QDRANT_IMAGE = "qdrant/qdrant:v1.16.2"
PASSWORD = "test"  # noqa: S105  # a throw-away server on loopback
_PREFIX = "fleet-test-"
_OWNER = "owner.json"
_MEMORY = Path("/dev/shm")  # noqa: S108  # mkdtemp makes a folder of its own in it
_ROOM = 4 * 1024**3  # bytes; a copy of a database takes some 20 MB and goes with its test

T = TypeVar("T")


class PostgresServer:
    """A PostgreSQL that tests may fill with databases.

    Attributes:
        admin_url: the superuser's DSN of the maintenance database.
    """

    def __init__(self, admin_url: str) -> None:
        self.admin_url = admin_url

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, by copying `template` when given, and return the superuser's DSN for it.

        A template must have no open connections; copying one takes about 50 ms with fsync off.
        """
        source = f" TEMPLATE {_quoted(template)}" if template else ""
        # FILE_COPY clones files: far cheaper than WAL_LOG for a throw-away server.
        how = f"{source} STRATEGY FILE_COPY" if template else ""
        self.execute(f"CREATE DATABASE {_quoted(name)}{how}")
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, with whatever is still connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)")

    def url(self, name: str) -> str:
        """Return the superuser's DSN for the database `name`."""
        return urlunsplit(urlsplit(self.admin_url)._replace(path=f"/{name}"))

    def execute(self, sql: str) -> None:
        """Run one statement as the superuser in the maintenance database."""
        _run(_execute(self.admin_url, sql))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for this session: from the environment, a container, or embedded."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get("FLEET_TEST_POSTGRES_URL")
        if url is None and _wants_containers():
            url = stack.enter_context(_postgres_container())
        if url is None:
            url = stack.enter_context(_embedded_postgres())
        yield PostgresServer(url)


@pytest.fixture(scope="session")
def lone_postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that no other test uses, for what belongs to a whole server, such as roles."""
    with _postgres_container() if _wants_containers() else _embedded_postgres() as url:
        yield PostgresServer(url)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The URL of a Valkey or Redis for this session: from the environment, a container, or embedded."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get("FLEET_TEST_REDIS_URL")
        if url is None and _wants_containers():
            url = stack.enter_context(_valkey_container())
        if url is None:
            url = stack.enter_context(_embedded_valkey())
        yield url


@pytest.fixture(scope="session")
def redis_url(valkey_url: str) -> str:
    """The same server under the name of the protocol."""
    return valkey_url


@pytest.fixture(scope="session")
def qdrant_url() -> Iterator[str]:
    """The URL of a Qdrant server for this session: from the environment or a container."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get("FLEET_TEST_QDRANT_URL")
        if url is None and _wants_containers():
            url = stack.enter_context(_qdrant_container())
        if url is None:
            pytest.skip("no Qdrant server: set FLEET_TEST_QDRANT_URL or FLEET_TEST_ENGINES=docker")
        yield url


def _wants_containers() -> bool:
    return os.environ.get("FLEET_TEST_ENGINES") == "docker"


@contextlib.contextmanager
def _embedded_postgres() -> Iterator[str]:
    with _home("postgres") as home:
        server = Postgres(
            home=home / "server",
            port=free_port(),
            password=PASSWORD,
            durable=False,
            log=home / "postgres.log",
        )
        child = server.start()
        try:
            _write_owner(home, child, signal.SIGINT)
            yield server.url()
        finally:
            child.stop()


@contextlib.contextmanager
def _embedded_valkey() -> Iterator[str]:
    with _home("valkey") as home:
        server = Valkey(
            home=home / "server",
            port=free_port(),
            password=PASSWORD,
            durable=False,
            log=home / "valkey.log",
        )
        child = server.start()
        try:
            _write_owner(home, child, signal.SIGTERM)
            yield server.url
        finally:
            child.stop()


@contextlib.contextmanager
def _postgres_container() -> Iterator[str]:
    # testcontainers is a test tool: only a run that asks for containers needs it.
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415

    with PostgresContainer(
        POSTGRES_IMAGE, username="postgres", password=PASSWORD, dbname="postgres", driver=None
    ) as container:
        yield str(container.get_connection_url())


@contextlib.contextmanager
def _valkey_container() -> Iterator[str]:
    from testcontainers.community.valkey import ValkeyContainer  # noqa: PLC0415

    with ValkeyContainer(VALKEY_IMAGE).with_password(PASSWORD) as container:
        host, port = container.get_host(), container.get_exposed_port()
        yield f"redis://:{PASSWORD}@{host}:{port}/0"


@contextlib.contextmanager
def _qdrant_container() -> Iterator[str]:
    from testcontainers.community.qdrant import QdrantContainer  # noqa: PLC0415

    with QdrantContainer(QDRANT_IMAGE) as container:
        yield f"http://{container.rest_host_address}"


@contextlib.contextmanager
def _home(engine: str) -> Iterator[Path]:
    """Yield a folder that PostgreSQL's own user can reach: pytest's tmp_path is closed to it."""
    _sweep()
    home = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{engine}-", dir=_folder()))
    home.chmod(0o711)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _folder() -> Path:
    """Return where engines keep their files: in memory if there is room, for each test copies hundreds of files."""
    try:
        has_room = shutil.disk_usage(_MEMORY).free > _ROOM and os.access(_MEMORY, os.W_OK)
    except OSError:  # not Linux
        has_room = False
    return _MEMORY if has_room else Path(tempfile.gettempdir())


def _write_owner(home: Path, engine: Child, stop_signal: int) -> None:
    owner = ProcessRecord.of(os.getpid())
    facts = {
        "owner": asdict(owner) if owner else None,
        "engine": asdict(engine.record),
        "stop_signal": int(stop_signal),
    }
    (home / _OWNER).write_text(json.dumps(facts))


def _sweep() -> None:
    """End and remove the engines of test runs that are gone."""
    for folder in {_MEMORY, Path(tempfile.gettempdir())}:
        _sweep_folder(folder)


def _sweep_folder(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*/{_OWNER}"):
        try:
            facts = json.loads(path.read_text())
        except (OSError, ValueError):  # another user's, or just being removed
            continue
        if ProcessRecord(**facts["owner"]).process() is None:
            ProcessRecord(**facts["engine"]).end(facts["stop_signal"])
            shutil.rmtree(path.parent, ignore_errors=True)


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(sql, timeout=60)
    finally:
        await connection.close()


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from synchronous code; in a thread of its own, so that no test's loop is touched."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
