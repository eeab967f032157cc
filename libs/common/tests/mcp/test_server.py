from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any, Literal

import httpx
import pytest
from fastmcp import Client, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.middleware import Middleware, MiddlewareContext
from mcp import MCPError
from mcp_types import PromptReference, TextContent, TextResourceContents

from fleet_common.auth import Principal
from fleet_common.mcp import Service
from fleet_common.mcp.middleware import ERROR_META, TIMEOUT_META
from fleet_common.mcp.server import create_server
from fleet_common.settings import ServiceSettings
from fleet_common.testing import admin, principal, serving, viewer
from fleet_common.testing.wire import modern, text

Era = Literal["auto", "legacy"]
READABLE = {
    "note_list",
    "note_get",
    "note_crash",
    "note_sleep",
    "note_upstream_timeout",
    "fleet_whoami",
}


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> Era:
    return "auto" if request.param == "auto" else "legacy"


@pytest.fixture
async def client(
    service: Service[Any, Any], settings: ServiceSettings, era: Era
) -> AsyncGenerator[Client[Any]]:
    server = create_server(service, settings, local_principal=viewer())
    async with Client(server, mode=era) as opened:
        yield opened


async def refused(client: Client[Any], name: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that fails and return the facts of its error."""
    result = await client.call_tool(name, arguments, raise_on_error=False)
    assert result.is_error
    assert result.meta is not None
    facts: dict[str, Any] = result.meta[ERROR_META]
    assert text(result).startswith(f"{facts['code']}: ")
    return facts


async def test_a_table_travels_once_and_its_envelope_is_structured(client: Client[Any]) -> None:
    result = await client.call_tool("note_list")
    assert json.loads(text(result)) == {
        "columns": ["id", "text"],
        "rows": [["1", "<untrusted>first</untrusted>"], ["2", "<untrusted>second</untrusted>"]],
    }
    assert result.structured_content == {
        "columns": ["id", "text"],
        "row_count": 2,
        "truncated": False,
        "next_cursor": None,
        "note": None,
    }


async def test_a_domain_error_is_a_readable_tool_error(client: Client[Any]) -> None:
    with pytest.raises(ToolError, match=r"^not_found: note 9 not found$"):
        await client.call_tool("note_get", {"note_id": "9"})


async def test_a_defect_is_masked(client: Client[Any]) -> None:
    facts = await refused(client, "note_crash")
    assert facts["code"] == "internal"
    assert "secret" not in json.dumps(facts)


async def test_a_slow_dependency_is_retryable(client: Client[Any]) -> None:
    facts = await refused(client, "note_upstream_timeout")
    assert (facts["code"], facts["retryable"]) == ("deadline_exceeded", True)


async def test_wrong_arguments_name_the_field_and_never_the_value(client: Client[Any]) -> None:
    facts = await refused(client, "note_get", note_id={"password": "hunter2"})
    assert facts["code"] == "invalid_input"
    assert facts["message"].startswith("note_id: ")
    assert "hunter2" not in json.dumps(facts)


async def test_an_unknown_argument_is_refused(client: Client[Any]) -> None:
    facts = await refused(client, "note_get", note_id="1", force=True)
    assert (facts["code"], "force" in facts["message"]) == ("invalid_input", True)


async def test_listed_is_what_is_callable(client: Client[Any]) -> None:
    assert {tool.name for tool in await client.list_tools()} == READABLE
    for hidden in ("note_write", "note_audit", "no_such_tool"):
        facts = await refused(client, hidden, text="x")
        assert facts["code"] == "unknown_tool"


async def test_injected_parameters_never_show(client: Client[Any]) -> None:
    schemas = {tool.name: tool.input_schema for tool in await client.list_tools()}
    assert list(schemas["note_get"]["properties"]) == ["note_id"]
    assert schemas["fleet_whoami"]["properties"] == {}


async def test_whoami_says_what_the_fleet_takes_the_caller_for(client: Client[Any]) -> None:
    result = await client.call_tool("fleet_whoami")
    assert result.structured_content is not None
    assert result.structured_content["roles"] == ["viewer"]
    assert result.structured_content["tenant"] == "demo"


async def test_the_callers_time_ends_a_call(client: Client[Any]) -> None:
    result = await client.call_tool("note_sleep", meta={TIMEOUT_META: 50}, raise_on_error=False)
    assert result.is_error
    assert text(result) == "deadline_exceeded: note_sleep did not finish in 0.05 s"


@pytest.mark.parametrize("nonsense", ["soon", -5, 0, {"ms": 1}, 10**400])
async def test_a_nonsense_time_is_ignored(client: Client[Any], nonsense: Any) -> None:
    result = await client.call_tool("note_get", {"note_id": "1"}, meta={TIMEOUT_META: nonsense})
    assert result.data == "first"


async def test_resources_and_prompts_work(client: Client[Any]) -> None:
    assert [t.uri_template for t in await client.list_resource_templates()] == ["note://{note_id}"]
    assert [p.name for p in await client.list_prompts()] == ["note_review"]
    assert await client.list_resources() == []
    (contents,) = await client.read_resource("note://1")
    assert isinstance(contents, TextResourceContents)
    assert contents.text == "first"
    rendered = await client.get_prompt("note_review", {"note_id": "1"})
    assert rendered.messages[0].content == TextContent(type="text", text="Review note 1.")


async def test_arguments_are_completed_for_callers_who_may_read(
    service: Service[Any, Any], settings: ServiceSettings, era: Era
) -> None:
    suggested = {}
    for who in (viewer(), principal()):
        server = create_server(service, settings, local_principal=who)
        async with Client(server, mode=era) as client:
            ref = PromptReference(type="ref/prompt", name="note_review")
            found = await client.complete(ref, {"name": "note_id", "value": "1"})
            suggested[bool(who.roles)] = list(found.values)
    assert suggested == {True: ["1", "12"], False: []}


async def test_a_missing_resource_is_a_coded_protocol_error(client: Client[Any]) -> None:
    with pytest.raises(MCPError, match="not_found: note 9 not found"):
        await client.read_resource("note://9")


async def test_a_defect_in_a_resource_is_masked(client: Client[Any]) -> None:
    with pytest.raises(MCPError) as caught:
        await client.read_resource("note://crash")
    assert "secret" not in str(caught.value)


async def test_an_unknown_resource_is_the_protocols_own_error(client: Client[Any]) -> None:
    with pytest.raises(MCPError, match="Resource not found"):
        await client.read_resource("nothing://here")


@pytest.mark.parametrize("who", [None, principal()], ids=["nobody", "no role"])
async def test_a_caller_without_a_role_sees_and_reads_nothing(
    service: Service[Any, Any], settings: ServiceSettings, who: Principal | None
) -> None:
    async with Client(create_server(service, settings, local_principal=who)) as client:
        names = [tool.name for tool in await client.list_tools()]
        assert names == (["fleet_whoami"] if who else [])
        assert await client.list_resource_templates() == []
        assert await client.list_resources() == []
        assert await client.list_prompts() == []
        with pytest.raises(MCPError, match="not_found"):
            await client.read_resource("note://1")
        with pytest.raises(MCPError, match="not_found"):
            await client.get_prompt("note_review", {"note_id": "1"})


async def test_an_admin_may_use_what_needs_a_scope_of_its_own(
    service: Service[Any, Any], settings: ServiceSettings
) -> None:
    async with Client(create_server(service, settings, local_principal=admin())) as client:
        assert (await client.call_tool("note_audit")).data == "audit"
        assert (await client.call_tool("note_write", {"text": "x"})).data == "demo: x"


class ListSpy(Middleware):
    """Counts the tool lists that a server makes."""

    def __init__(self) -> None:
        self.lists = 0

    async def on_list_tools(self, context: MiddlewareContext[Any], call_next: Any) -> Any:
        self.lists += 1
        return await call_next(context)


async def test_a_call_over_http_lists_no_tools_behind_the_scenes(
    service: Service[Any, Any], settings: ServiceSettings
) -> None:
    spied = await lists_made_by_one_call(create_server(service, settings, local_principal=viewer()))
    plain: FastMCP[Any] = FastMCP("stock")
    plain.tool(name="note_get")(lambda note_id: note_id)
    stock = await lists_made_by_one_call(plain)
    assert spied == 0
    assert stock == 1, "FastMCP no longer lists before each call: delete skip_hidden_list"


async def lists_made_by_one_call(server: FastMCP[Any]) -> int:
    spy = ListSpy()
    server.add_middleware(spy)
    app = server.http_app(stateless_http=True)
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        request = modern("tools/call", "note_get", arguments={"note_id": "1"})
        assert (await client.post("/mcp", **request)).status_code == 200
    return spy.lists
