"""The service as a whole: what it lists, and what it does while its upstreams are away."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from starlette.applications import Starlette

from fleet_common.auth.keys import KeyFile
from fleet_common.mcp import Runtime
from fleet_common.mcp.app import create_app
from fleet_common.mcp.server import create_server
from fleet_common.policy import Policy, PolicyFile
from fleet_common.testing import serving, viewer
from fleet_devops.server import INSTRUCTIONS, SERVICE
from fleet_devops.settings import DevopsSettings

TOOLS = {
    "gh_repo_get",
    "gh_file_read",
    "gh_issue_list",
    "gh_issue_get",
    "k8s_list",
    "k8s_get",
    "mon_query",
}
AWAY = DevopsSettings(
    github_api_url="http://127.0.0.1:9",
    prometheus_url="http://127.0.0.1:9",
    upstream_timeout_s=1,
)


@pytest.fixture
async def runtime() -> Runtime:
    return Runtime.create("devops", "0", AWAY)


@pytest.fixture
async def mcp(runtime: Runtime) -> AsyncIterator[Client[Any]]:
    server = create_server(SERVICE, AWAY, runtime=runtime, local_principal=viewer())
    async with Client(server) as client:
        yield client


async def test_a_viewer_sees_every_tool_because_all_only_read(mcp: Client[Any]) -> None:
    tools = {tool.name: tool for tool in await mcp.list_tools()}

    assert tools.keys() - {"fleet_whoami"} == TOOLS
    for name in TOOLS:
        annotations = tools[name].annotations
        assert annotations is not None
        assert annotations.read_only_hint is True
        assert annotations.destructive_hint is False
        assert tools[name].output_schema is not None
        assert tools[name].title


async def test_no_dependency_shows_as_an_argument(mcp: Client[Any]) -> None:
    tools = {tool.name: tool for tool in await mcp.list_tools()}

    for name in TOOLS:
        properties = tools[name].input_schema["properties"]
        assert not {"principal", "github", "cluster", "monitoring"} & properties.keys()
        assert all(schema.get("description") for schema in properties.values())


async def test_the_tools_cost_a_model_few_tokens(mcp: Client[Any]) -> None:
    shown = [(tool.name, tool.description, tool.input_schema) for tool in await mcp.list_tools()]

    assert len(json.dumps(shown)) < 12_000


async def test_the_service_is_ready_while_its_upstreams_are_away(
    mcp: Client[Any], runtime: Runtime
) -> None:
    report = await runtime.health.report()

    assert report.ok


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("gh_repo_get", {"owner": "a", "repo": "b"}, "unavailable"),
        ("mon_query", {"promql": "up"}, "unavailable"),
        ("k8s_list", {"kind": "pods"}, "not_configured"),
    ],
)
async def test_an_upstream_that_is_away_is_a_coded_error(
    mcp: Client[Any], tool: str, arguments: dict[str, Any], code: str
) -> None:
    result = await mcp.call_tool(tool, arguments, raise_on_error=False)

    assert result.is_error
    assert result.meta is not None
    assert result.meta["fleet/error"]["code"] == code


async def test_a_caller_is_kept_to_the_repositories_and_namespaces_of_its_roles() -> None:
    role = {"scopes": ["devops:read"], "repositories": ["acme/site"], "namespaces": ["shop"]}
    policy = Policy.model_validate({"version": 1, "roles": {"viewer": role}})
    runtime = replace(Runtime.create("devops", "0", AWAY), policy=PolicyFile.fixed(policy))
    server = create_server(SERVICE, AWAY, runtime=runtime, local_principal=viewer())
    asked = [
        ("gh_repo_get", {"owner": "acme", "repo": "site"}, "unavailable"),
        ("gh_repo_get", {"owner": "acme", "repo": "payroll"}, "not_found"),
        ("gh_issue_list", {"owner": "other", "repo": "site"}, "not_found"),
        ("k8s_list", {"kind": "pods", "namespace": "shop"}, "not_configured"),
        ("k8s_list", {"kind": "pods", "namespace": "kube-system"}, "not_found"),
        ("k8s_list", {"kind": "pods"}, "not_found"),
        ("mon_query", {"promql": "up"}, "permission_denied"),
    ]
    async with Client(server) as client:
        for tool, arguments, code in asked:
            result = await client.call_tool(tool, arguments, raise_on_error=False)
            assert result.meta is not None
            assert result.meta["fleet/error"]["code"] == code, (tool, arguments)


def test_the_instructions_fit_what_clients_read() -> None:
    assert len(INSTRUCTIONS) <= 512


@dataclass(frozen=True, slots=True)
class Door:
    """The service over HTTP, and a key that opens it."""

    app: Starlette
    key: str


@pytest.fixture
def door(tmp_path: Path) -> Door:
    keys = tmp_path / "keys.json"
    key = KeyFile(keys).create(name="test", roles=["viewer"], tenant="demo")
    return Door(create_app(SERVICE, AWAY.model_copy(update={"keys_file": keys})), key.text)


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_a_client_of_either_era_calls_without_listing_first(
    door: Door, era: Literal["legacy", "auto"]
) -> None:
    # Guards the absence of x-mcp-header: with it, the 2026-07-28 call would be refused.
    async with serving(door.app) as url:
        headers = {"Authorization": f"Bearer {door.key}"}
        async with Client(StreamableHttpTransport(f"{url}/mcp", headers), mode=era) as client:
            result = await client.call_tool(
                "gh_repo_get", {"owner": "a", "repo": "b"}, raise_on_error=False
            )

    assert result.meta is not None
    assert result.meta["fleet/error"]["code"] == "unavailable"
