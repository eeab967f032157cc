from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp_types import ResourceTemplateReference, TextContent, TextResourceContents

from fleet_common.settings import SettingsError
from fleet_common.testing import serving, wait_until
from fleet_common.testing.wire import answer, modern, text
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

READABLE = {
    "crm_echo",
    "crm_sleep",
    "gh_progress",
    "rag_big",
    "fleet_whoami",
    "fleet_status",
}


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    url: str
    key: str
    sales_key: str
    services: dict[str, Any]
    events: Any

    def client(self, **headers: str) -> httpx.AsyncClient: ...


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> Any:
    return request.param


def connect(fleet: Fleet, era: Any, path: str = "/mcp", key: str | None = None) -> Client[Any]:
    transport = StreamableHttpTransport(f"{fleet.url}{path}", auth=key or fleet.key)
    return Client(transport, mode=era)


async def test_one_url_lists_what_the_caller_may_use_of_all_services(
    fleet: Fleet, era: Any
) -> None:
    async with connect(fleet, era) as client:
        assert {tool.name for tool in await client.list_tools()} == READABLE
        assert [p.name for p in await client.list_prompts()] == ["pipeline_review"]
        templates = await client.list_resource_templates()
        assert [t.uri_template for t in templates] == ["crm://schema/{kind}"]
        assert await client.list_resources() == []


async def test_a_caller_with_more_rights_sees_more(fleet: Fleet, era: Any) -> None:
    async with connect(fleet, era, key=fleet.sales_key) as client:
        names = {tool.name for tool in await client.list_tools()}
    assert "crm_write" in names
    assert "gh_progress" not in names


async def test_calls_reach_the_service_that_owns_the_tool_under_an_internal_token(
    fleet: Fleet, era: Any
) -> None:
    async with connect(fleet, era) as client:
        echoed = await client.call_tool("crm_echo", {"text": "hi"})
        assert echoed.data == {"text": "hi", "tenant": "demo", "credential": "internal"}
        assert (await client.call_tool("rag_big", {"size": 300_000})).data == "x" * 300_000


async def test_prompts_and_resources_are_routed_too(fleet: Fleet, era: Any) -> None:
    async with connect(fleet, era) as client:
        (contents,) = await client.read_resource("crm://schema/contact")
        assert isinstance(contents, TextResourceContents)
        assert contents.text == "schema of contact"
        rendered = await client.get_prompt("pipeline_review")
        assert rendered.messages[0].content == TextContent(type="text", text="Review the pipeline.")


async def test_completion_is_routed_by_what_it_refers_to(fleet: Fleet, era: Any) -> None:
    template = ResourceTemplateReference(type="ref/resource", uri="crm://schema/{kind}")
    nobodys = ResourceTemplateReference(type="ref/resource", uri="none://{kind}")
    async with connect(fleet, era) as client:
        found = await client.complete(template, {"name": "kind", "value": "co"})
        assert found.values == ["contact", "company"]
        assert (await client.complete(nobodys, {"name": "kind", "value": ""})).values == []


async def test_progress_streams_through(fleet: Fleet, era: Any) -> None:
    seen: list[float] = []

    async def note(progress: float, _total: float | None, _message: str | None) -> None:
        seen.append(progress)

    async with connect(fleet, era) as client:
        await client.call_tool("gh_progress", progress_handler=note)
    assert seen == [0, 1, 2]


async def test_what_a_caller_may_not_use_looks_unknown(fleet: Fleet, era: Any) -> None:
    async with connect(fleet, era) as client:
        for name in ("crm_write", "no_such_tool"):
            result = await client.call_tool(name, {"text": "x"}, raise_on_error=False)
            assert text(result).startswith("unknown_tool: ")


@pytest.mark.parametrize("path", ["/data/mcp", "/data/key/mcp", "/key/mcp"])
async def test_every_door_leads_to_its_tools(fleet: Fleet, era: Any, path: str) -> None:
    async with connect(fleet, era, path) as client:
        names = {tool.name for tool in await client.list_tools()}
        assert (await client.call_tool("crm_echo", {"text": "x"})).data["text"] == "x"
    assert ("gh_progress" in names) is (path == "/key/mcp")


@pytest.mark.parametrize("path", ["/mcp", "/key/mcp", "/devops/mcp", "/aiml/key/mcp"])
async def test_no_door_opens_without_a_key(fleet: Fleet, path: str) -> None:
    async with httpx.AsyncClient(base_url=fleet.url) as stranger:
        response = await stranger.post(path, **modern("tools/list"))
    assert response.status_code == 401


async def test_the_gateway_is_ready_once_it_knows_every_service(fleet: Fleet) -> None:
    async with fleet.client() as http:

        async def is_ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await wait_until(is_ready)


async def test_the_fleets_status_is_a_tool(fleet: Fleet, era: Any) -> None:
    async with connect(fleet, era) as client:
        status = (await client.call_tool("fleet_status")).structured_content
    assert status is not None
    assert status["ready"] is True
    assert [(s["name"], s["tools"]) for s in status["services"]] == [
        ("data", 3),
        ("devops", 1),
        ("aiml", 1),
    ]
    for service in status["services"]:
        assert service["version"] == "1"
        assert (service["endpoints"], service["ejected"], service["breaker"]) == (1, 0, "closed")
        assert service["held"] == []


async def test_a_dead_service_empties_no_list_and_its_calls_are_retryable(
    fleet: Fleet, era: Any
) -> None:
    async with connect(fleet, era) as client:
        await client.list_tools()
        await fleet.services["devops"].aclose()
        assert {tool.name for tool in await client.list_tools()} == READABLE

        async def is_lost() -> bool:
            status = (await client.call_tool("fleet_status")).structured_content
            assert status is not None
            return status["ready"] is False

        await wait_until(is_lost)
    async with fleet.client() as http:
        response = await http.post("/mcp", **modern("tools/call", "gh_progress", arguments={}))
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["data"] == {
        "code": "unavailable",
        "message": "the devops service is not available right now",
        "retryable": True,
        "retryAfterMs": 1000,
    }


async def test_a_service_that_has_never_answered_makes_unknown_names_retryable(
    tmp_path: Path, keypair: tuple[Path, Path], fleet: Fleet
) -> None:
    settings = Settings(
        keys_file=tmp_path / "keys.json",
        internal_private_key_file=keypair[0],
        services=("data=http://127.0.0.1:1",),
    )
    app = await asyncio.to_thread(create_gateway, SERVICE, settings)
    headers = {"authorization": f"Bearer {fleet.key}"}
    async with (
        serving(app) as url,
        httpx.AsyncClient(base_url=url, headers=headers) as http,
    ):
        young = await http.get("/readyz")
        early = await http.post("/mcp", **modern("tools/call", "crm_echo", arguments={}))
        own = await http.post("/mcp", **modern("tools/call", "fleet_whoami", arguments={}))
        listed = await http.post("/mcp", **modern("tools/list"))
    assert young.status_code == 503
    assert young.json()["checks"]["services"]["error"] == "unavailable"
    assert early.status_code == 503
    assert early.json()["error"]["data"]["retryable"] is True
    assert own.status_code == 200
    assert {t["name"] for t in answer(listed)["result"]["tools"]} == {
        "fleet_whoami",
        "fleet_status",
    }


async def test_a_client_that_hangs_up_cancels_the_tool_behind_the_gateway(fleet: Fleet) -> None:
    async with fleet.client() as http:
        call = asyncio.create_task(
            http.post("/mcp", **modern("tools/call", "crm_sleep", arguments={}))
        )
        async with asyncio.timeout(5):
            await fleet.events.started.wait()
            call.cancel()
            await fleet.events.cancelled.wait()


async def test_header_and_body_that_disagree_are_refused_by_the_service(fleet: Fleet) -> None:
    request = modern("tools/call", "crm_echo", arguments={"text": "x"})
    request["json"]["params"]["name"] = "crm_sleep"
    async with fleet.client() as http:
        response = await http.post("/mcp", **request)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == -32020


async def test_an_old_clients_headers_are_not_believed(fleet: Fleet) -> None:
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "crm_echo", "arguments": {"text": "x"}},
    }
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-11-25",
        "mcp-method": "tools/call",
        "mcp-name": "gh_progress",
    }
    async with fleet.client() as http:
        response = await http.post("/mcp", json=body, headers=headers)
    assert answer(response)["result"]["structuredContent"]["text"] == "x"


@pytest.mark.parametrize("path", ["/mcp", "/data/mcp"])
async def test_an_encoded_name_leads_to_its_tool(fleet: Fleet, path: str) -> None:
    request = modern("tools/call", "crm_echo", arguments={"text": "x"})
    request["headers"]["mcp-name"] = "=?base64?Y3JtX2VjaG8=?="
    async with fleet.client() as http:
        response = await http.post(path, **request)
    assert answer(response)["result"]["structuredContent"]["text"] == "x"


async def test_a_version_that_is_two_makes_no_header_believed(fleet: Fleet) -> None:
    """The transport reads the first version and, as it is old, checks no header against the body."""
    request = modern("tools/call", "crm_echo", arguments={})
    headers = httpx.Headers(request["headers"])
    twice = [("mcp-protocol-version", "2025-11-25"), *headers.multi_items()]
    request["json"]["params"]["name"] = "fleet_whoami"
    async with fleet.client() as http:
        response = await http.post("/mcp", json=request["json"], headers=twice)
    # The gateway answers that one itself.
    assert answer(response)["result"]["structuredContent"]["credential"] == "key"


async def test_the_callers_credential_never_reaches_a_service(
    tmp_path: Path, keypair: tuple[Path, Path], fleet: Fleet
) -> None:
    seen: list[dict[str, str]] = []

    async def spy(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
            return
        seen.append({k.decode(): v.decode() for k, v in scope["headers"]})
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(spy) as url:
        settings = Settings(
            keys_file=tmp_path / "keys.json",
            internal_private_key_file=keypair[0],
            services=(f"data={url}",),
        )
        app = await asyncio.to_thread(create_gateway, SERVICE, settings)
        async with serving(app) as gateway, httpx.AsyncClient(base_url=gateway) as http:
            seen.clear()
            request = modern("tools/list")
            request["headers"] |= {"x-api-key": fleet.key, "cookie": "session=1"}
            response = await http.post("/data/mcp", **request)
    assert response.status_code == 502
    assert seen
    for headers in seen:
        assert fleet.key not in json.dumps(headers)
        assert "cookie" not in headers
        assert "x-api-key" not in headers
        assert headers["authorization"].startswith("Bearer ey")
    assert "www-authenticate" not in response.headers


async def test_without_the_signing_key_the_start_is_refused(tmp_path: Path) -> None:
    settings = Settings(
        keys_file=tmp_path / "k.json", internal_private_key_file=tmp_path / "missing.pem"
    )
    with pytest.raises(SettingsError, match="INTERNAL_PRIVATE_KEY_FILE: cannot read"):
        await asyncio.to_thread(create_gateway, SERVICE, settings)
