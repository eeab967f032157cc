"""The GitHub that a cluster can be given answers devops as GitHub does, and slowly enough to be loaded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastmcp import Client

from fleet_cli.engines.freeport import free_port
from fleet_common.mcp.server import create_server
from fleet_common.testing.principals import viewer
from fleet_common.testing.wire import text
from fleet_devops.server import SERVICE
from fleet_devops.settings import DevopsSettings

K8S = Path(__file__).parents[2] / "k8s"
DELAY_S = 0.2

pytestmark = pytest.mark.blocking


@pytest.fixture(scope="module")
def github() -> Iterator[str]:
    port = free_port()
    environment = {"HOST": "127.0.0.1", "PORT": str(port), "DELAY_S": str(DELAY_S)}
    words = [sys.executable, str(K8S / "components/github-emulator/github.py")]
    process = subprocess.Popen(words, env={**os.environ, **environment})
    url = f"http://127.0.0.1:{port}"
    try:
        ends = time.monotonic() + 30
        while True:
            try:
                assert httpx.get(f"{url}/livez").status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < ends
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


async def test_devops_reads_a_file_of_it_again_and_again(github: str) -> None:
    settings = DevopsSettings(github_api_url=github)
    server = create_server(SERVICE, settings, local_principal=viewer())
    arguments = {"owner": "admin", "repo": "shop", "path": "hello.txt"}
    async with Client(server) as client:
        for _ in range(2):  # nothing of it is kept, or only the first call would be slow
            began = time.monotonic()
            assert "Hello from the shop" in text(await client.call_tool("gh_file_read", arguments))
            assert time.monotonic() - began >= DELAY_S
        gone = await client.call_tool(
            "gh_file_read", {**arguments, "path": "no.txt"}, raise_on_error=False
        )
    assert text(gone).startswith("not_found: ")


async def test_many_callers_wait_together(github: str) -> None:
    async with httpx.AsyncClient(base_url=github, timeout=30) as http:
        began = time.monotonic()
        path = "/repos/admin/shop/contents/README.md"
        answers = await asyncio.gather(*(http.get(path) for _ in range(40)))
    assert {each.status_code for each in answers} == {200}
    assert time.monotonic() - began < 40 * DELAY_S
