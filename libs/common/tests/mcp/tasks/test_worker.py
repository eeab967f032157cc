"""Workers as processes of their own: killed, and with a Valkey that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp_tasks import call_tool_task
from pydantic import SecretStr

from fleet_cli.engines.freeport import free_port
from fleet_cli.engines.valkey import Valkey
from fleet_common.mcp.app import create_worker_app
from fleet_common.testing import serving, wait_until

JOBS = Path(__file__).parent / "jobs.py"
# Each worker is a Python of its own: seconds of imports on a busy machine.
pytestmark = [pytest.mark.timeout(120), pytest.mark.blocking]


class Workers:
    """Starts `jobs.py worker` as often as a test wants."""

    def __init__(self, log: Path) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self._log = log

    def start(self, fleet: Any, **variables: str) -> subprocess.Popen[bytes]:
        """Start one more worker for this service's queue."""
        env = os.environ | {
            "JOBS_NAME": fleet.name,
            "FLEET_REDIS_URL": fleet.settings.redis_url.get_secret_value(),
            "FLEET_KEYS_FILE": str(fleet.settings.keys_file),
            "FLEET_TASKS_REDELIVERY_S": "1",
            **variables,
        }
        with self._log.open("ab") as log:
            process = subprocess.Popen([sys.executable, str(JOBS), "worker"], env=env, stderr=log)
        self.processes.append(process)
        return process


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    started = Workers(tmp_path / "workers.log")
    yield started
    for process in started.processes:
        process.kill()
        process.wait()


class Work:
    """What `job_wait` leaves: a line with the pid for each beginning, and an end when it may."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pids(self) -> list[int]:
        """Return who began, in order."""
        return (
            [int(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []
        )

    def may_end(self) -> None:
        """Let everybody end."""
        Path(f"{self.path}.go").touch()

    async def began(self, times: int) -> list[int]:
        """Return who began, once it was so many."""

        async def enough() -> bool:
            return len(self.pids()) >= times

        await wait_until(enough, within_s=60)
        return self.pids()


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "work")


async def test_after_kill_9_another_worker_finishes_the_task_and_its_result_comes_once(
    fleet: Any, connect: Callable[..., Any], workers: Workers, work: Work
) -> None:
    key = await fleet.key()
    first, second = workers.start(fleet), workers.start(fleet)
    async with fleet.serving(tasks_worker=False) as url:
        task = await call_tool_task(await connect(url, key), "job_wait", {"path": str(work.path)})
        (victim,) = await work.began(1)
        os.kill(victim, signal.SIGKILL)
        heir = {first.pid: second.pid, second.pid: first.pid}[victim]
        assert await work.began(2) == [victim, heir]
        work.may_end()
        assert (await task.result()).data == f"ended in {heir}"
        assert (await task.result()).data == f"ended in {heir}"
    assert len(work.pids()) == 2, "nobody ran it a third time"


async def test_a_worker_has_health_and_metrics_and_no_door(fleet: Any) -> None:
    app = await asyncio.to_thread(create_worker_app, fleet.service, fleet.settings)
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/readyz")).status_code == 200
        metrics = (await http.get("/metrics")).text
        assert f'mcp_tasks_pending{{queue="{fleet.name}"' in metrics
        assert f'mcp_admission_limit{{service="{fleet.name}"}} 0.0' in metrics
        assert (await http.post("/mcp", json={})).status_code == 404


async def test_sigterm_ends_a_worker_orderly_and_its_task_goes_to_another(
    fleet: Any, connect: Callable[..., Any], workers: Workers, work: Work
) -> None:
    key = await fleet.key()
    first = workers.start(fleet, FLEET_SHUTDOWN_GRACE_S="0.5")
    async with fleet.serving(tasks_worker=False) as url:
        task = await call_tool_task(await connect(url, key), "job_wait", {"path": str(work.path)})
        await work.began(1)
        first.terminate()
        assert await asyncio.to_thread(first.wait, 20) == 0
        second = workers.start(fleet)
        assert await work.began(2) == [first.pid, second.pid]
        work.may_end()
        assert (await task.result()).data == f"ended in {second.pid}"


async def test_a_killed_valkey_loses_no_task(
    fleet: Any, connect: Callable[..., Any], workers: Workers, work: Work, tmp_path: Path
) -> None:
    place = tmp_path / "valkey"
    server = Valkey(home=place, port=free_port(), password="test", log=tmp_path / "valkey.log")
    child = await asyncio.to_thread(server.start)
    try:
        fleet.settings = fleet.settings.model_copy(update={"redis_url": SecretStr(server.url)})
        key = await fleet.key()
        async with fleet.serving(tasks_worker=False) as url:
            client = await connect(url, key)
            tasks = [
                await call_tool_task(client, "job_wait", {"path": str(work.path)}),
                await call_tool_task(client, "job_count", {"path": str(tmp_path / "counted")}),
            ]
            child.popen.kill()
            child.popen.wait()
            child = await asyncio.to_thread(server.start)
            workers.start(fleet)
            await work.began(1)
            child.popen.kill()  # once more, while a worker is at it
            child.popen.wait()
            child = await asyncio.to_thread(server.start)
            work.may_end()
            assert (await tasks[0].result()).data.startswith("ended in")
            assert (await tasks[1].result()).data == "counted to 1"
    finally:
        await asyncio.to_thread(child.stop)
