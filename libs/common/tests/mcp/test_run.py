from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

from fleet_common.auth.keys import KeyFile
from fleet_common.mcp import Service
from fleet_common.mcp.run import listen, run
from fleet_common.settings import ServiceSettings, SettingsError
from fleet_common.testing import wait_until
from fleet_common.testing.wire import answer, modern

PROGRAM = """
import asyncio, sys
from contextlib import asynccontextmanager
from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from fleet_common.mcp import Service
from fleet_common.mcp.run import run
from fleet_common.settings import ServiceSettings

@tool(annotations=ToolAnnotations(read_only_hint=True))
async def nap(seconds: float) -> str:
    "Sleep."
    await asyncio.sleep(seconds)
    return "rested"

@asynccontextmanager
async def deps(settings, runtime):
    yield None

sys.exit(run(Service(
    name="data", version="1", instructions="", settings=ServiceSettings, open_deps=deps, tools=(nap,),
)))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "service.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def env(keys_path: Path) -> dict[str, str]:
    return {**os.environ, "FLEET_KEYS_FILE": str(keys_path)}


def test_an_unknown_verb_shows_the_known_ones(
    service: Service[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(service, ["fly"]) == 2
    assert "{serve|worker|stdio|config}" in capsys.readouterr().err
    assert run(service, []) == 2
    assert run(service, ["--help"]) == 0


def test_config_prints_every_setting_as_json(
    service: Service[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(service, ["config"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["service"] == "data"
    assert "FLEET_SLOTS" in {row["variable"] for row in shown["settings"]}


def test_a_wrong_setting_is_one_sentence_and_status_2(
    service: Service[Any, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_PORT", "no")
    assert run(service, ["serve"]) == 2
    assert capsys.readouterr().err.startswith("fleet-data: FLEET_PORT: ")


@pytest.mark.parametrize(
    ("redis_url", "complaint"),
    [
        ("", "FLEET_REDIS_URL is not set: tasks wait in Redis"),
        ("redis://127.0.0.1:1/0", "data has no tool that may run as a task"),
    ],
)
def test_a_worker_without_work_is_a_sentence(
    service: Service[Any, Any],
    redis_url: str,
    complaint: str,
    *,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if redis_url:
        monkeypatch.setenv("FLEET_REDIS_URL", redis_url)
    assert run(service, ["worker"]) == 2
    assert complaint in capsys.readouterr().err


def test_a_services_own_verb_gets_settings_and_words(service: Service[Any, Any]) -> None:
    seen: list[Any] = []

    def migrate(settings: ServiceSettings, words: list[str]) -> int:
        seen.extend([type(settings), words])
        return 7

    more = Service(**{**vars(service), "commands": {"migrate": migrate}})
    assert run(more, ["migrate", "--to", "3"]) == 7
    assert seen == [ServiceSettings, ["--to", "3"]]


@pytest.mark.timeout(40)
@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (
            "SettingsError('FLEET_VECTOR_PATH is in use')",
            2,
            "fleet-data: FLEET_VECTOR_PATH is in use\n",
        ),
        ("RuntimeError('a defect')", 3, "RuntimeError: a defect"),
    ],
)
def test_a_dependency_that_refuses_its_settings_is_a_sentence(
    program: Path, env: dict[str, str], raised: str, status: int, said: str
) -> None:
    text = program.read_text().replace("yield None", f"raise {raised}\n    yield None")
    program.write_text(
        text.replace("import ServiceSettings", "import ServiceSettings, SettingsError")
    )
    ended = subprocess.run(
        [sys.executable, str(program), "serve"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == status
    assert said in ended.stderr.replace("\\n", "\n")
    assert ("Traceback" in ended.stderr) is (status == 3)


def test_a_taken_port_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}"):
            listen(ServiceSettings(port=port))


def test_ipv6_addresses_can_be_listened_on() -> None:
    with listen(ServiceSettings(host="::1", port=0)) as sock:
        assert sock.family == socket.AF_INET6


@pytest.mark.parametrize(
    ("key", "complaint"),
    [(None, "FLEET_STDIO_KEY is not set"), ("fleet_00000000_x", "is not a valid fleet key")],
)
def test_stdio_without_a_valid_key_is_refused(
    service: Service[Any, Any],
    keys_path: Path,
    key: str | None,
    complaint: str,
    *,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLEET_KEYS_FILE", str(keys_path))
    if key:
        monkeypatch.setenv("FLEET_STDIO_KEY", key)
    assert run(service, ["stdio"]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.timeout(40)
@pytest.mark.blocking
async def test_stdio_serves_the_caller_its_key_names(
    program: Path, env: dict[str, str], keys_path: Path
) -> None:
    key = KeyFile(keys_path).create(name="t", roles=["viewer"], tenant="demo")
    transport = StdioTransport(
        sys.executable, [str(program), "stdio"], env={**env, "FLEET_STDIO_KEY": key.text}
    )
    async with Client(transport) as client:
        who = await client.call_tool("fleet_whoami")
    assert who.structured_content is not None
    assert who.structured_content["subject"] == f"key:{key.record.id}"


@pytest.mark.timeout(40)
@pytest.mark.blocking
async def test_sigterm_lets_a_call_in_flight_finish_and_turns_new_ones_away(
    program: Path, env: dict[str, str], keys_path: Path, unused_tcp_port: int
) -> None:
    key = KeyFile(keys_path).create(name="t", roles=["viewer"], tenant="demo").text
    url = f"http://127.0.0.1:{unused_tcp_port}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), "serve",
        env={**env, "FLEET_PORT": str(unused_tcp_port)},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await wait_until(lambda: answers(f"{url}/readyz"), within_s=25)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers) as client:
            request = modern("tools/call", "nap", arguments={"seconds": 1.0})
            call = asyncio.create_task(client.post("/mcp", **request))
            await wait_until(lambda: shows(f"{url}/metrics", 'inflight{service="data"} 1.0'))
            process.send_signal(signal.SIGTERM)
            assert answer(await call)["result"]["content"][0]["text"] == "rested"
        assert await process.wait() == 0
        assert not await answers(f"{url}/readyz")
    finally:
        if process.returncode is None:
            process.kill()


async def answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(url)).status_code == 200
    except httpx.TransportError:
        return False


async def shows(url: str, text: str) -> bool:
    async with httpx.AsyncClient() as client:
        return text in (await client.get(url)).text
