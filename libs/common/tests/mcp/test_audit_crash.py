"""A real service and its audit file: killed in the middle of writes, and where no file can be."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from fleet_common.audit import verify
from fleet_common.audit.chain import Record, read_record
from fleet_common.audit.files import lines_of, sequence
from fleet_common.auth.keys import KeyFile
from fleet_common.digests import digest_of
from fleet_common.testing import wait_until
from fleet_common.testing.wire import answer, modern

KEY = "k" * 32
PROGRAM = """
import sys
from contextlib import asynccontextmanager
from fastmcp.tools import tool
from fleet_common.mcp import Service
from fleet_common.mcp.run import run
from fleet_common.settings import ServiceSettings

@tool
async def note_write(number: int) -> str:
    "Write."
    return "written"

@asynccontextmanager
async def deps(settings, runtime):
    yield None

sys.exit(run(Service(
    name="data", version="1", instructions="", settings=ServiceSettings, open_deps=deps,
    tools=(note_write,),
)))
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def serving(audit_file: Path, keys: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    env = {
        **os.environ,
        "FLEET_KEYS_FILE": str(keys),
        "FLEET_PORT": str(port),
        "FLEET_AUDIT_SINK": "file",
        "FLEET_AUDIT_FILE": str(audit_file),
        "FLEET_AUDIT_KEY": KEY,
    }
    command = [sys.executable, "-c", PROGRAM, "serve"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def write_until_it_is_gone(url: str, key: str, answered: list[int], first: int) -> None:
    """Write numbers from `first` on, and note those that were answered."""
    number = first
    async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}) as http:
        while True:
            call = modern("tools/call", "note_write", arguments={"number": number})
            try:
                told = answer(await http.post("/mcp", **call))
            except httpx.HTTPError:
                return
            if "error" in told:  # shed, because a slow disk keeps all slots busy
                assert told["error"]["data"]["retryable"], told
                continue
            assert told["result"]["content"][0]["text"] == "written"
            answered.append(number)
            number += 1


async def write_and_kill(url: str, key: str, process: subprocess.Popen[str]) -> list[int]:
    """Return what was answered before the process was killed, with eight writes on their way."""
    answered: list[int] = []

    async def is_ready() -> bool:
        try:
            async with httpx.AsyncClient() as http:
                return (await http.get(f"{url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def is_at_work() -> bool:
        return len(answered) > 50

    await wait_until(is_ready, within_s=25)
    async with asyncio.TaskGroup() as group:
        for writer in range(8):
            group.create_task(write_until_it_is_gone(url, key, answered, writer * 1_000_000))
        await wait_until(is_at_work, within_s=25)
        process.kill()
    return answered


@pytest.mark.timeout(60)
def test_kill_9_in_the_middle_of_writes_loses_no_answered_one(
    tmp_path: Path, keys_path: Path
) -> None:
    key = KeyFile(keys_path).create(name="test", roles=["admin"], tenant="demo").text
    path, port = tmp_path / "data.jsonl", free_port()
    with serving(path, keys_path, port) as process:
        answered = asyncio.run(write_and_kill(f"http://127.0.0.1:{port}", key, process))
    verdict = verify(lines_of(sequence(path)), key=KEY.encode())
    assert verdict.ok, verdict.problem
    assert len(verdict.gaps) == 1  # it never closed its chain
    recorded = {
        record["arguments"]
        for record in records(path)
        if record["kind"] == "event" and record["outcome"] == "ok"
    }
    assert {digest_of({"number": number}, KEY.encode()) for number in answered} <= recorded


def records(path: Path) -> list[Record]:
    lines = [line for _, line in lines_of(sequence(path))]
    return [read_record(line, KEY.encode()) for line in lines if line.endswith(b"\n")]


@pytest.mark.timeout(60)
def test_a_place_where_no_file_can_be_stops_the_start_with_a_sentence(
    tmp_path: Path, keys_path: Path
) -> None:
    (tmp_path / "file").touch()
    with serving(tmp_path / "file" / "data.jsonl", keys_path, free_port()) as process:
        _, said = process.communicate(timeout=50)
    assert process.returncode == 2
    assert "the audit log cannot be kept in" in said
    assert "Traceback" not in said
