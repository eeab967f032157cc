"""What a user does first: its tools, through every URL, in both protocol eras."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Literal, Protocol
from uuid import uuid4

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from fleet_common.testing.wire import MODERN, modern, text

pytestmark = pytest.mark.blocking

# What the repository says of its own services; `fleet policy check` reads it too.
CATALOGUE = json.loads((files("fleet_cli") / "catalogue.json").read_text())
TOOLS = {
    service: {each["name"] for each in CATALOGUE if each["service"] == service}
    for service in ("data", "devops", "aiml")
}
EVERYWHERE = {"fleet_whoami", "fleet_audit_search"}
ALL = set().union(*TOOLS.values()) | EVERYWHERE | {"fleet_status"}
ERAS: list[Literal["auto", "legacy"]] = ["auto", "legacy"]


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    urls: dict[str, str]
    key: str

    def origin(self, service: str) -> str: ...
    def http(self, service: str = "gateway", **headers: str) -> httpx.Client: ...


def connect(fleet: Fleet, url: str, era: Literal["auto", "legacy"]) -> Client[Any]:
    return Client(StreamableHttpTransport(url, auth=fleet.key), mode=era)


@pytest.fixture(params=ERAS)
async def gateway(request: pytest.FixtureRequest, fleet: Fleet) -> Any:
    async with connect(fleet, fleet.urls["gateway"], request.param) as client:
        yield client


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("service", ["gateway", *TOOLS])
async def test_each_url_lists_its_tools(fleet: Fleet, service: str, era: Any) -> None:
    expected = ALL if service == "gateway" else TOOLS[service] | EVERYWHERE
    urls = [fleet.urls[service], fleet.origin(service) + "/key/mcp"]
    if service != "gateway":
        urls.append(f"{fleet.origin('gateway')}/{service}/mcp")
    for url in urls:
        async with connect(fleet, url, era) as client:
            assert {tool.name for tool in await client.list_tools()} == expected, url


async def test_contacts_are_searched_and_read(gateway: Client[Any]) -> None:
    found = await gateway.call_tool(
        "crm_search", {"object": "contact", "query": "maria", "limit": 3}
    )
    table = json.loads(text(found))
    assert len(table["rows"]) == 3
    assert table["next_cursor"].startswith("data.")
    key = table["rows"][0][table["columns"].index("id")]
    read = await gateway.call_tool("crm_get", {"object": "contact", "ids": [key, str(uuid4())]})
    assert key in text(read)
    assert "missing_ids" in text(read)


async def test_the_demo_data_has_the_promised_size(gateway: Client[Any]) -> None:
    sql = (
        "SELECT (SELECT count(*) FROM crm.contacts), (SELECT count(*) FROM crm.companies), "
        "(SELECT count(*) FROM crm.deals), (SELECT count(*) FROM crm.leads), "
        "(SELECT count(*) FROM crm.activities)"
    )
    table = json.loads(text(await gateway.call_tool("db_query", {"sql": sql})))
    contacts, companies, deals, leads, activities = table["rows"][0]
    assert contacts >= 2000
    assert companies >= 300
    assert deals >= 500
    assert leads >= 1000
    assert activities > leads


@pytest.mark.parametrize(
    "sql", ["DELETE FROM crm.contacts", "SELECT pg_read_file('/etc/passwd')", "SELECT 1; SELECT 2"]
)
async def test_sql_that_is_no_harmless_question_is_refused(gateway: Client[Any], sql: str) -> None:
    result = await gateway.call_tool("db_query", {"sql": sql}, raise_on_error=False)
    assert result.is_error
    assert "root:" not in text(result)


async def test_one_key_makes_one_change_and_the_same_answer(gateway: Client[Any]) -> None:
    email = f"{uuid4().hex}@e2e.example"
    record = {"last_name": "Once", "email": email, "lifecycle": "lead"}
    arguments = {"object": "contact", "records": [record], "idempotency_key": uuid4().hex}
    dry = await gateway.call_tool(
        "crm_upsert", {"object": "contact", "records": [record], "dry_run": True}
    )
    first = await gateway.call_tool("crm_upsert", arguments)
    again = await gateway.call_tool("crm_upsert", arguments)
    assert "created" in text(dry)
    assert text(first) == text(again)
    sql = {"sql": "SELECT count(*) FROM crm.contacts WHERE email = $1", "params": [email]}
    counted = await gateway.call_tool("db_query", sql)
    assert json.loads(text(counted))["rows"] == [[1]]


async def test_a_file_is_read_from_github(gateway: Client[Any]) -> None:
    result = await gateway.call_tool(
        "gh_file_read", {"owner": "admin", "repo": "shop", "path": "hello.txt"}
    )
    assert "Hello from the shop" in text(result)


async def test_without_a_cluster_the_answer_says_so(gateway: Client[Any]) -> None:
    result = await gateway.call_tool("k8s_list", {"kind": "Pod"}, raise_on_error=False)
    assert text(result).startswith("not_configured: no cluster configured")


async def test_the_documents_are_searchable_with_citations(gateway: Client[Any]) -> None:
    result = await gateway.call_tool("rag_search", {"query": "connect Cursor to the fleet"})
    assert "docs/connecting-clients.md" in text(result)


async def test_texts_become_vectors(gateway: Client[Any]) -> None:
    result = await gateway.call_tool("embed_texts", {"texts": ["hello", "hello", "goodbye"]})
    assert result.structured_content is not None
    assert not result.is_error


async def test_resources_and_prompts_come_through(gateway: Client[Any]) -> None:
    contents = await gateway.read_resource("crm://schema/contact")
    assert "email" in str(contents[0])
    assert (await gateway.get_prompt("pipeline_review")).messages


async def test_the_fleet_is_well(gateway: Client[Any]) -> None:
    status = (await gateway.call_tool("fleet_status")).structured_content
    assert status is not None
    assert status["ready"] is True


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("service", ["gateway", *TOOLS])
def test_a_client_that_is_not_ours_lists_and_calls(
    fleet: Fleet, inspector: Callable[..., Any], service: str, era: str
) -> None:
    url = fleet.urls[service]
    listed = inspector(url, fleet.key, era, "tools/list")
    assert {tool["name"] for tool in listed["tools"]} >= TOOLS.get(service, ALL)
    calls = {
        "data": ("db_query", {"sql": "SELECT count(*) FROM crm.contacts"}),
        "devops": ("gh_file_read", {"owner": "admin", "repo": "shop", "path": "hello.txt"}),
        "aiml": ("rag_search", {"query": "where are the audit lines"}),
    }
    for tool, arguments in [calls[service]] if service in calls else calls.values():
        words = ("--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        assert not inspector(url, fleet.key, era, "tools/call", *words).get("isError")


BODIES = {
    "not json": b"{",
    "deep": b"[" * 100_000,
    "batch": b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
    "empty": b"",
    "not utf-8": b'{"jsonrpc":"2.0","method":"\xff"}',
    "no method": b'{"jsonrpc":"2.0","id":1}',
    "unknown method": b'{"jsonrpc":"2.0","id":1,"method":"no/such"}',
    "params is a list": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[1]}',
    "too large": b'{"x":"' + b"x" * 5_000_000 + b'"}',
}


@pytest.mark.parametrize("service", ["gateway", *TOOLS])
def test_malformed_messages_never_cause_a_server_error(fleet: Fleet, service: str) -> None:
    base = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    with fleet.http(service) as http:
        for version in (MODERN, "2025-11-25", None, "1999-01-01"):
            headers = base | ({"mcp-protocol-version": version} if version else {})
            for what, body in BODIES.items():
                response = http.post("/mcp", content=body, headers=headers)
                assert 400 <= response.status_code < 500 or what == "unknown method", what
                assert response.status_code < 500, what
                assert "Traceback" not in response.text


@pytest.mark.parametrize("service", ["gateway", *TOOLS])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"authorization": "Bearer fleet_00000000_no"}, 401),
        ({"authorization": ""}, 401),
        ({"mcp-name": "other_tool"}, 400),
        ({"accept": "text/html"}, 406),
    ],
    ids=str,
)
def test_wrong_headers_get_the_specs_answer(
    fleet: Fleet, service: str, headers: dict[str, str], status: int
) -> None:
    request = modern("tools/call", "fleet_whoami", arguments={})
    request["headers"] |= headers
    with fleet.http(service) as http:
        assert http.post("/mcp", **request).status_code == status


@pytest.mark.parametrize("service", ["gateway", *TOOLS])
def test_probes_and_metrics_answer(fleet: Fleet, service: str) -> None:
    with fleet.http(service) as http:
        for path in ("/livez", "/readyz", "/startupz"):
            assert http.get(path).status_code == 200
        assert f'mcp_admission_limit{{service="{service}"}}' in http.get("/metrics").text
        has_issuer = service in {"gateway", "data"}
        document = http.get("/.well-known/oauth-protected-resource/mcp")
        assert document.status_code == (200 if has_issuer else 404)
