"""What every use of a service leaves in its audit log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import httpx
import pytest
from fastmcp import Client
from fastmcp.tools import tool
from mcp import MCPError
from mcp_types import PromptReference, ToolAnnotations

from fleet_common.audit import AuditLog, verify
from fleet_common.audit.chain import Record
from fleet_common.audit.writer import Pace
from fleet_common.auth import Principal
from fleet_common.digests import digest_of
from fleet_common.mcp import Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.mcp.middleware import ERROR_META
from fleet_common.mcp.server import create_server
from fleet_common.settings import ServiceSettings
from fleet_common.testing import admin, principal, serving, viewer, wait_until
from fleet_common.testing.audit import MemorySink
from fleet_common.testing.wire import modern

Era = Literal["auto", "legacy"]


class Connect(Protocol):
    """Opens a client of the small service as somebody."""

    def __call__(
        self, who: Principal | None = ..., *, era: Era = ..., **log: Any
    ) -> AbstractAsyncContextManager[Client[Any]]:
        """Yield the client."""


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def connect(service: Service[Any, Any], settings: ServiceSettings, sink: MemorySink) -> Connect:
    @asynccontextmanager
    async def opened(
        who: Principal | None = None, *, era: Era = "auto", **log: Any
    ) -> AsyncGenerator[Client[Any]]:
        audit = AuditLog(sink, service="data", pace=Pace(retry_s=0.01), **log)
        runtime = replace(Runtime.create("data", "1", settings), audit=audit)
        server = create_server(service, settings, runtime=runtime, local_principal=who)
        async with Client(server, mode=era) as client:
            yield client

    return opened


def brief(record: Record) -> tuple[str, str, str, str]:
    return record["action"], record["target"], record["decision"], record["outcome"]


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_read_leaves_one_record(connect: Connect, sink: MemorySink, era: Era) -> None:
    async with connect(viewer(), era=era) as client:
        await client.call_tool("note_get", {"note_id": "1"})
    (record,) = sink.events
    assert brief(record) == ("tool", "note_get", "allow", "ok")
    assert (record["subject"], record["tenant"]) == ("key:test0002", "demo")
    assert record["roles"] == ["viewer"]
    assert record["rule"]
    assert record["arguments"] == digest_of({"note_id": "1"})
    assert record["ms"] >= 0
    assert verify(enumerate_lines(sink)).ok


async def test_arguments_and_results_are_not_in_it(connect: Connect, sink: MemorySink) -> None:
    async with connect(admin()) as client:
        await client.call_tool("note_write", {"text": "the quick brown fox"})
    assert b"quick brown" not in b"".join(sink.lines)


async def test_they_are_where_the_operator_asks_and_masked(
    connect: Connect, sink: MemorySink
) -> None:
    async with connect(admin(), captures=True) as client:
        await client.call_tool("note_write", {"text": "the fox says password=hunter2"})
    record = sink.events[-1]
    assert "the fox says" in record["captured"]["arguments"]
    assert "the fox says" in record["captured"]["result"]
    assert b"hunter2" not in b"".join(sink.lines)


async def test_a_keyed_log_digests_arguments_with_its_key(
    connect: Connect, sink: MemorySink
) -> None:
    key = b"k" * 32
    async with connect(viewer(), key=key) as client:
        await client.call_tool("note_get", {"note_id": "1"})
    assert verify(enumerate_lines(sink), key=key).ok
    assert digest_of({"note_id": "1"}, key).encode() in sink.lines[1]


async def test_a_write_leaves_its_intent_and_its_outcome(
    connect: Connect, sink: MemorySink
) -> None:
    async with connect(admin()) as client:
        await client.call_tool("note_write", {"text": "x"})
        # Both stand before the answer came: nothing has been flushed since.
        assert [brief(record) for record in sink.events] == [
            ("tool", "note_write", "allow", "started"),
            ("tool", "note_write", "allow", "ok"),
        ]


async def test_a_write_starts_only_once_its_intent_is_durable(
    connect: Connect, sink: MemorySink
) -> None:
    async with connect(admin()) as client:
        await client.call_tool("note_get", {"note_id": "1"})
        sink.gate.clear()
        answer = asyncio.ensure_future(client.call_tool("note_write", {"text": "x"}))
        await asyncio.sleep(0.1)
        assert not answer.done()
        sink.gate.set()
        await answer


async def test_a_failing_disk_refuses_every_call_until_it_works_again(
    connect: Connect, sink: MemorySink
) -> None:
    async with connect(admin()) as client:
        sink.fails = True
        for name, arguments in (("note_write", {"text": "x"}), ("note_get", {"note_id": "1"})):
            result = await client.call_tool(name, arguments, raise_on_error=False)
            assert result.is_error
            assert result.meta is not None
            assert result.meta[ERROR_META]["code"] == "audit_unavailable"
            assert result.meta[ERROR_META]["retryable"] is True
        with pytest.raises(MCPError, match="audit_unavailable"):
            await client.read_resource("note://1")
        sink.fails = False
        await wait_until(lambda: succeeds(client))
    outcomes = [brief(record) for record in sink.events]
    assert ("tool", "note_write", "deny", "audit_unavailable") in outcomes
    assert ("resource", "note://1", "deny", "audit_unavailable") in outcomes
    assert ("tool", "note_write", "allow", "ok") not in outcomes


async def test_a_write_whose_outcome_cannot_be_recorded_is_not_answered(
    connect: Connect, sink: MemorySink, service: Service[Any, Any]
) -> None:
    async with connect(admin()) as client:
        await client.call_tool("note_get", {"note_id": "1"})
        writes = sink.write
        taken = 0

        def take_the_intent_only(lines: Any) -> None:
            nonlocal taken
            if any(b'"outcome":"ok"' in line and b"note_write" in line for line in lines):
                taken += 1
                raise OSError(28, "No space left on device")
            writes(lines)

        sink.write = take_the_intent_only  # type: ignore[method-assign]
        result = await client.call_tool("note_write", {"text": "x"}, raise_on_error=False)
        assert result.meta is not None
        assert result.meta[ERROR_META]["code"] == "audit_unavailable"
        assert taken
        sink.write = writes  # type: ignore[method-assign]
    assert [brief(record)[3] for record in sink.events[-2:]] == ["started", "ok"]


@pytest.mark.parametrize(
    ("tool", "rule"), [("note_write", "needs scope data:write"), ("no_such_tool", "unknown_tool")]
)
async def test_a_refused_tool_leaves_a_denial_and_its_rule(
    connect: Connect, sink: MemorySink, tool: str, rule: str
) -> None:
    async with connect(viewer()) as client:
        await client.call_tool(tool, {"text": "x"}, raise_on_error=False)
    (record,) = sink.events
    assert brief(record) == ("tool", tool, "deny", "unknown_tool")
    assert record["rule"] == rule


async def test_a_failed_tool_leaves_its_code(connect: Connect, sink: MemorySink) -> None:
    async with connect(viewer()) as client:
        await client.call_tool("note_get", {"note_id": "9"}, raise_on_error=False)
        await client.call_tool("note_crash", raise_on_error=False)
    assert [brief(record)[2:] for record in sink.events] == [
        ("allow", "not_found"),
        ("allow", "internal"),
    ]


async def test_resources_and_prompts_leave_records(connect: Connect, sink: MemorySink) -> None:
    async with connect(viewer()) as client:
        await client.read_resource("note://1")
        await client.get_prompt("note_review", {"note_id": "1"})
        with pytest.raises(MCPError):
            await client.read_resource("note://9")
    assert [brief(record) for record in sink.events] == [
        ("resource", "note://1", "allow", "ok"),
        ("prompt", "note_review", "allow", "ok"),
        ("resource", "note://9", "allow", "not_found"),
    ]


async def test_a_stranger_leaves_denials(connect: Connect, sink: MemorySink) -> None:
    async with connect(principal()) as client:
        for asked in (client.read_resource("note://1"), client.get_prompt("note_review", {})):
            with pytest.raises(MCPError):
                await asked
        ref = PromptReference(type="ref/prompt", name="note_review")
        await client.complete(ref, {"name": "note_id", "value": "1"})
    assert [brief(record)[:3] for record in sink.events] == [
        ("resource", "note://1", "deny"),
        ("prompt", "note_review", "deny"),
        ("completion", "note_review", "deny"),
    ]


@dataclass
class Held:
    """A tool that says when it has begun and never ends."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def note_hold(self) -> str:
        """Hold a slot for ever."""
        self.begun.set()
        await asyncio.Event().wait()
        return "never"

    def of(self, service: Service[Any, Any]) -> Service[Any, Any]:
        reads = tool(annotations=ToolAnnotations(read_only_hint=True))
        return replace(service, tools=(reads(self.note_hold),))


HOLD = modern("tools/call", "note_hold", arguments={})


async def test_a_caller_who_hangs_up_leaves_a_record(
    service: Service[Any, Any], settings: ServiceSettings, sink: MemorySink, viewer_key: str
) -> None:
    held = Held()
    headers = {"authorization": f"Bearer {viewer_key}"}
    async with (
        serving_audited(held.of(service), settings, sink) as url,
        httpx.AsyncClient(base_url=url, headers=headers) as client,
    ):
        holding = asyncio.ensure_future(client.post("/mcp", **HOLD))
        await held.begun.wait()
        holding.cancel()
        await wait_until(lambda: _holds(bool(sink.events)))
    (record,) = sink.events
    assert brief(record) == ("tool", "note_hold", "allow", "cancelled")
    assert len(record["request"]) >= 8


async def test_shed_requests_leave_a_record_of_who_wanted_what_and_how_often(
    service: Service[Any, Any], keys_path: Path, sink: MemorySink, viewer_key: str
) -> None:
    held = Held()
    settings = ServiceSettings(keys_file=keys_path, slots=1, queue=0)
    headers = {"authorization": f"Bearer {viewer_key}"}
    async with (
        serving_audited(held.of(service), settings, sink) as url,
        httpx.AsyncClient(base_url=url, headers=headers) as client,
    ):
        holding = asyncio.ensure_future(client.post("/mcp", **HOLD))
        await held.begun.wait()
        for _ in range(3):
            assert (await client.post("/mcp", **HOLD)).status_code == 503
        holding.cancel()
    records = [record for record in sink.events if record["decision"] == "shed"]
    assert {brief(record) for record in records} == {("tool", "note_hold", "shed", "overloaded")}
    assert sum(record.get("count", 1) for record in records) == 3
    (record, *_) = records
    assert (record["tenant"], record["subject"]) == ("demo", f"key:{viewer_key.split('_')[1]}")
    assert "arguments" not in record  # the body was never read


async def test_readiness_knows_whether_calls_can_be_recorded(
    service: Service[Any, Any], settings: ServiceSettings, sink: MemorySink
) -> None:
    sink.fails = True
    async with (
        serving_audited(service, settings, sink) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):

        async def is_ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        async def is_not_ready() -> bool:
            return not await is_ready()

        await wait_until(is_not_ready)
        assert (await client.get("/readyz")).json()["checks"]["audit"]["error"] == (
            "audit_unavailable"
        )
        sink.fails = False
        await wait_until(is_ready)


@asynccontextmanager
async def serving_audited(
    service: Service[Any, Any], settings: ServiceSettings, sink: MemorySink
) -> AsyncGenerator[str]:
    audit = AuditLog(sink, service="data", pace=Pace(gather_s=0.2, retry_s=0.01))
    runtime = replace(Runtime.create("data", "1", settings), audit=audit)
    app = await asyncio.to_thread(create_app, service, settings, runtime=runtime)
    async with serving(app) as url:
        yield url


def enumerate_lines(sink: MemorySink) -> list[tuple[str, bytes]]:
    return [(str(number), line) for number, line in enumerate(sink.lines)]


async def succeeds(client: Client[Any]) -> bool:
    result = await client.call_tool("note_get", {"note_id": "1"}, raise_on_error=False)
    return not result.is_error


async def _holds(condition: bool) -> bool:
    return condition
