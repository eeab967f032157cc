from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError

from fleet_common.auth import Principal
from fleet_common.mcp import Service
from fleet_common.mcp.server import create_server
from fleet_common.settings import ServiceSettings
from fleet_common.testing import admin, viewer
from fleet_common.testing.wire import text


class Connect(Protocol):
    """Opens a client of the small service, whose audit log is a file."""

    def __call__(self, who: Principal) -> AbstractAsyncContextManager[Client[Any]]:
        """Yield the client."""


@pytest.fixture
def connect(service: Service[Any, Any], keys_path: Path, tmp_path: Path) -> Connect:
    path = tmp_path / "audit" / "data.jsonl"
    settings = ServiceSettings(keys_file=keys_path, audit_sink="file", audit_file=path)

    @asynccontextmanager
    async def opened(who: Principal) -> AsyncGenerator[Client[Any]]:
        server = create_server(service, settings, local_principal=who)
        async with Client(server) as client:
            yield client

    return opened


async def search(client: Client[Any], **wanted: Any) -> list[dict[str, Any]]:
    result = await client.call_tool("fleet_audit_search", wanted)
    found = json.loads(text(result))
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


async def test_an_admin_finds_what_was_just_called(connect: Connect) -> None:
    async with connect(admin()) as client:
        await client.call_tool("note_get", {"note_id": "1"})
        await client.call_tool("note_get", {"note_id": "9"}, raise_on_error=False)
        found = await search(client)
    assert [(row["target"], row["outcome"]) for row in found] == [
        ("note_get", "not_found"),
        ("note_get", "ok"),
    ]
    assert found[0]["subject"] == "key:test0001"


async def test_a_question_narrows_what_is_found(connect: Connect) -> None:
    async with connect(admin()) as client:
        await client.call_tool("note_get", {"note_id": "1"})
        await client.call_tool("note_list")
        await client.call_tool("no_such_tool", raise_on_error=False)
        assert [row["target"] for row in await search(client, tool="note_*")] == [
            "note_list",
            "note_get",
        ]
        assert [row["target"] for row in await search(client, decision="deny")] == ["no_such_tool"]
        assert await search(client, subject="key:nobody") == []
        assert await search(client, since=datetime(2100, 1, 1, tzinfo=UTC)) == []


async def test_the_answer_is_bounded_and_says_so(connect: Connect) -> None:
    async with connect(admin()) as client:
        for _ in range(3):
            await client.call_tool("note_list")
        result = await client.call_tool("fleet_audit_search", {"limit": 2})
    assert result.structured_content is not None
    assert result.structured_content["row_count"] == 2
    assert result.structured_content["truncated"] is True
    assert result.structured_content["note"].startswith("Covers this process")


async def test_another_tenant_stays_invisible(connect: Connect) -> None:
    async with connect(admin("acme")) as client:
        await client.call_tool("note_list")
    async with connect(admin()) as client:
        assert await search(client) == []
    async with connect(admin("acme")) as client:
        assert {row["target"] for row in await search(client)} == {"note_list"}


async def test_who_is_no_admin_does_not_see_the_tool(connect: Connect) -> None:
    async with connect(viewer()) as client:
        assert "fleet_audit_search" not in {tool.name for tool in await client.list_tools()}
        with pytest.raises(ToolError, match="unknown_tool"):
            await client.call_tool("fleet_audit_search")


async def test_without_a_file_there_is_nothing_to_search(
    service: Service[Any, Any], settings: ServiceSettings
) -> None:
    server = create_server(service, settings, local_principal=admin())
    async with Client(server) as client:
        with pytest.raises(
            ToolError, match="not_configured: this service cannot read its audit records"
        ):
            await client.call_tool("fleet_audit_search")
