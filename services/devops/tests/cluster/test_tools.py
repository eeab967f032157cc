"""The cluster's tools as a client calls them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import Client
from fastmcp.client.client import CallToolResult
from fastmcp.exceptions import ToolError
from mcp_types import TextContent

from fleet_common.mcp import Runtime
from fleet_common.mcp.server import create_server
from fleet_common.testing import viewer
from fleet_devops.cluster.service import Cluster
from fleet_devops.deps import Deps
from fleet_devops.server import SERVICE
from fleet_devops.settings import DevopsSettings
from fleet_devops.upstreams import open_deps

if TYPE_CHECKING:
    from services.devops.tests.cluster.conftest import TableServer


@pytest.fixture
async def mcp(cluster: Cluster) -> AsyncIterator[Client[Any]]:
    @asynccontextmanager
    async def opened(settings: DevopsSettings, runtime: Runtime) -> AsyncGenerator[Deps]:
        async with open_deps(settings, runtime) as deps:
            yield replace(deps, cluster=cluster)

    server = create_server(SERVICE, DevopsSettings(), open_deps=opened, local_principal=viewer())
    async with Client(server) as client:
        yield client


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


async def call(mcp: Client[Any], tool: str, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    result = await mcp.call_tool(tool, arguments)
    assert result.structured_content is not None
    return json.loads(text_of(result)), result.structured_content


async def test_a_list_comes_as_rows(mcp: Client[Any]) -> None:
    shown, envelope = await call(mcp, "k8s_list", kind="pods", namespace="team-a", limit=2)

    assert shown["rows"] == [["pod-0", "Running"], ["pod-1", "Running"]]
    assert shown["note"] == "3 more follow"
    assert envelope["truncated"] is True
    assert envelope["next_cursor"].startswith("devops.")


async def test_an_object_comes_as_json_with_facts_beside_it(mcp: Client[Any]) -> None:
    shown, facts = await call(mcp, "k8s_get", kind="pod", name="pod-1", namespace="team-a")

    assert shown["metadata"]["labels"] == {"app": "web"}
    assert facts["uid"] == "uid-pod-1"
    assert facts["truncated"] is False


async def test_fields_pick_paths_also_through_lists(mcp: Client[Any], api: TableServer) -> None:
    containers = [{"name": "a", "image": "one"}, {"name": "b", "image": "two"}]
    api.objects["v1/pods", "team-a", "pod-0"].patch({"spec": {"containers": containers}})

    shown, _ = await call(
        mcp,
        "k8s_get",
        kind="pod",
        name="pod-0",
        namespace="team-a",
        fields=["spec.containers.image", "status.phase", "kind.of"],
    )

    assert shown == {
        "spec.containers.image": ["one", "two"],
        "status.phase": None,
        "kind.of": None,
    }


async def test_a_secret_cannot_be_read_through_fields(mcp: Client[Any]) -> None:
    shown, _ = await call(
        mcp, "k8s_get", kind="secret", name="login", namespace="team-a", fields=["data.password"]
    )

    assert shown["data.password"].startswith("hmac-sha256:")


async def test_parts_over_the_budget_are_left_out_by_name(
    mcp: Client[Any], api: TableServer
) -> None:
    api.objects["v1/pods", "team-a", "pod-0"].patch({"spec": {"blob": "x" * 30_000}})

    shown, facts = await call(mcp, "k8s_get", kind="pod", name="pod-0", namespace="team-a")

    assert "spec" not in shown
    assert shown["left_out"] == facts["left_out"] == ["spec"]
    assert facts["truncated"] is True


async def test_an_unknown_object_is_a_readable_error(mcp: Client[Any]) -> None:
    with pytest.raises(ToolError, match=r"^not_found: Pod nothing not found$"):
        await call(mcp, "k8s_get", kind="pod", name="nothing", namespace="team-a")


@pytest.mark.parametrize(
    "wrong",
    [{"name": "../secrets"}, {"name": "a/b"}, {"namespace": "a/b"}, {"kind": "pods/exec"}],
)
async def test_arguments_that_would_change_the_path_never_reach_the_cluster(
    mcp: Client[Any], api: TableServer, wrong: dict[str, str]
) -> None:
    with pytest.raises(ToolError, match=r"^invalid_input: "):
        await call(
            mcp, "k8s_get", **({"kind": "pod", "name": "pod-0", "namespace": "team-a"} | wrong)
        )

    assert list(api) == []
