"""The database goes away in the middle of a call and comes back; the fleet is never restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import asyncpg
import httpx

from fleet_cli.engines.freeport import free_port
from fleet_cli.engines.postgres import Postgres, dsn
from fleet_cli.processes import Child
from fleet_common.testing.wire import answer, modern

ROLE_PASSWORD = "of-the-roles-of-this-test"
SLOW = "SELECT count(*) FROM generate_series(1, 1000000000)"
NOTICED_S = 10.0  # readiness keeps what it knows for a second, the gateway asks every few


class Laptop(Protocol):
    """What the fixture `laptop` gives (see conftest.py)."""

    project: Path

    def fleet(self, **env: str) -> AbstractContextManager[Any]: ...


class Database:
    """A PostgreSQL of the user's own, which the fleet neither starts nor watches."""

    def __init__(self, home: Path) -> None:
        log = home / "postgres.log"
        self.server = Postgres(home=home / "server", port=free_port(), password="test", log=log)
        self._child: Child | None = None

    def start(self) -> None:
        self._child = self.server.start()

    def lose(self) -> None:
        """End it as a lost machine does: every connection breaks at once, nothing is shut down."""
        assert self._child is not None
        self._child.popen.send_signal(signal.SIGQUIT)
        self._child.popen.wait(10)

    def stop(self) -> None:
        assert self._child is not None
        self._child.stop()

    def environment(self) -> dict[str, str]:
        def url(role: str) -> str:
            return dsn(role, ROLE_PASSWORD, self.server.port, "crm")

        return {
            "FLEET_DATA_DATABASE_URL": url("crm_writer"),
            "FLEET_DATA_READER_URL": url("crm_reader"),
            "FLEET_DATA_MIGRATOR_URL": self.server.url("crm"),
            "FLEET_DATA_CLAIMS_KEY": "a-secret-of-thirty-two-characters-or-more",
        }


@contextmanager
def database() -> Iterator[Database]:
    """Yield a running database with an empty `crm` in it."""
    # PostgreSQL's own user must get there: pytest's tmp_path is closed to it.
    with tempfile.TemporaryDirectory(prefix="fleet-outage-") as folder:
        Path(folder).chmod(0o711)
        mine = Database(Path(folder))
        mine.start()
        try:
            asyncio.run(_create_crm(mine.server.url()))
            yield mine
        finally:
            mine.stop()


async def _create_crm(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE DATABASE crm")
    finally:
        await connection.close()


def call(fleet: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    """Return the result of a tool, called through the gateway."""
    with fleet.http() as http:
        response = http.post("/mcp", **modern("tools/call", tool, arguments=arguments))
    assert response.status_code == 200, response.text
    return dict(answer(response)["result"])


def refusal(result: dict[str, Any]) -> tuple[str, bool]:
    """Return the code of a refused call and whether it may be repeated."""
    assert result["isError"], result
    assert "Traceback" not in str(result)
    error = result["_meta"]["fleet/error"]
    return error["code"], error["retryable"]


def until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + NOTICED_S
    while not holds():
        assert time.monotonic() < ends, "nobody noticed in time"
        time.sleep(0.1)


def is_ready(fleet: Any) -> bool:
    return httpx.get(f"{fleet.origin('data')}/readyz").status_code == 200


def says_ready(fleet: Any) -> bool:
    return bool(call(fleet, "fleet_status")["structuredContent"]["ready"])


def running_queries(server: Postgres) -> int:
    async def count() -> int:
        connection = await asyncpg.connect(server.url())
        try:
            sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series%' AND state = 'active'"
            return int(await connection.fetchval(f"{sql} AND pid <> pg_backend_pid()"))
        finally:
            await connection.close()

    return asyncio.run(count())


def add_demo_tenant(environment: dict[str, str]) -> None:
    words = [sys.executable, "-m", "fleet_data", "tenant", "demo"]
    subprocess.run(words, check=True, env={**os.environ, **environment}, timeout=60)


def test_a_database_lost_in_the_middle_of_a_call_is_an_outage_and_no_loss(laptop: Laptop) -> None:
    with database() as mine, laptop.fleet(**mine.environment()) as fleet:
        add_demo_tenant(mine.environment())
        lasting: list[dict[str, Any]] = []
        caller = threading.Thread(target=lambda: lasting.append(call(fleet, "db_query", sql=SLOW)))
        caller.start()
        until(lambda: lasting != [] or running_queries(mine.server) > 0)
        mine.lose()
        caller.join(10)
        assert refusal(lasting[0]) == ("unavailable", True)

        change = {
            "object": "contact",
            "records": [{"last_name": "Late", "email": f"{uuid4().hex}@e2e.example"}],
            "idempotency_key": uuid4().hex,
        }
        assert refusal(call(fleet, "crm_upsert", **change)) == ("unavailable", True)
        until(lambda: not is_ready(fleet))
        until(lambda: not says_ready(fleet))
        assert not call(fleet, "embed_texts", texts=["others go on"]).get("isError")
        assert fleet.process.poll() is None

        mine.start()
        until(lambda: is_ready(fleet))
        until(lambda: says_ready(fleet))
        first, again = (call(fleet, "crm_upsert", **change) for _ in range(2))
        assert first["content"] == again["content"]
        counted = call(fleet, "db_query", sql="SELECT count(*) FROM crm.contacts")
        assert counted["content"][0]["text"].endswith('"rows":[[1]]}')
