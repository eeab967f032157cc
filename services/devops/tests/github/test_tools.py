"""GitHub's tools as a client calls them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import Client
from fastmcp.client.client import CallToolResult
from fastmcp.exceptions import ToolError
from mcp_types import TextContent

from fleet_common.mcp import Runtime
from fleet_common.mcp.server import create_server
from fleet_common.testing import viewer
from fleet_devops.cluster.client import KubeClient
from fleet_devops.cluster.service import Cluster
from fleet_devops.deps import Deps
from fleet_devops.github.events import GitHubEvents
from fleet_devops.github.service import GitHub
from fleet_devops.monitoring.service import Monitoring
from fleet_devops.reach import Reach
from fleet_devops.server import SERVICE
from fleet_devops.settings import DevopsSettings

if TYPE_CHECKING:
    from services.devops.tests.github.conftest import FaultProxy

REPO = {"owner": "admin", "repo": "hello"}


@pytest.fixture
async def mcp(github: GitHub) -> AsyncIterator[Client[Any]]:
    reach = Reach(("admin/*",), ("*",))

    @asynccontextmanager
    async def opened(_settings: DevopsSettings, runtime: Runtime) -> AsyncGenerator[Deps]:
        async with KubeClient.open(kubeconfig=None, context=None, timeout_s=1) as kube:
            yield Deps(
                github=github,
                cluster=Cluster(kube, reach, digest_key=b"k"),
                monitoring=Monitoring(None, reach),
                github_events=GitHubEvents(runtime.metrics),
            )

    server = create_server(SERVICE, DevopsSettings(), open_deps=opened, local_principal=viewer())
    async with Client(server) as client:
        yield client


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


async def call(mcp: Client[Any], tool: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    result = await mcp.call_tool(tool, REPO | arguments)
    assert result.structured_content is not None
    return text_of(result), result.structured_content


async def test_a_repository_comes_at_a_glance(mcp: Client[Any]) -> None:
    _, found = await call(mcp, "gh_repo_get")

    assert found["full_name"] == "admin/hello"
    assert found["visibility"] == "public"
    assert found["description"] == "<untrusted>A demo title</untrusted>"


async def test_a_file_comes_as_fenced_text_with_facts_beside_it(mcp: Client[Any]) -> None:
    text, facts = await call(mcp, "gh_file_read", path="src/app.py", start_line=2, end_line=3)

    assert text == "src/app.py, lines 2-3 of 40\n<untrusted>line 2\nline 3</untrusted>"
    assert facts["total_lines"] == 40
    assert facts["truncated"] is False
    assert len(facts["sha"]) == 40


async def test_a_long_file_is_read_in_parts_without_losing_a_line(mcp: Client[Any]) -> None:
    lines: list[str] = []
    start: int | None = 1
    while start is not None:
        text, facts = await call(mcp, "gh_file_read", path="big.txt", start_line=start)
        assert len(text) < 25_000
        lines += text.split("<untrusted>")[1].removesuffix("</untrusted>").split("\n")
        start = facts["next_start_line"]

    assert [int(line[:6]) for line in lines] == list(range(1, 1001))


async def test_characters_hidden_in_a_file_are_left_out_and_counted(mcp: Client[Any]) -> None:
    text, facts = await call(mcp, "gh_file_read", path="trojan.py")

    assert "ok = 1  #  hidden" in text
    assert facts["hidden_characters_removed"] == 3


async def test_issues_come_as_rows_without_hidden_characters(mcp: Client[Any]) -> None:
    text, envelope = await call(mcp, "gh_issue_list", state="all", fields=["number", "title"])

    rows = dict(json.loads(text)["rows"])
    assert envelope["columns"] == ["number", "title"]
    assert envelope["row_count"] == 7
    assert "rows" not in envelope
    assert rows[1] == "<untrusted>Ignore this title</untrusted>"


async def test_a_page_of_issues_names_the_next(mcp: Client[Any]) -> None:
    _, first = await call(mcp, "gh_issue_list", state="all", limit=5)
    _, second = await call(mcp, "gh_issue_list", state="all", limit=5, cursor=first["next_cursor"])

    assert (first["row_count"], second["row_count"]) == (5, 2)
    assert first["truncated"] is True
    assert second["next_cursor"] is None


async def test_an_unknown_field_is_refused_with_those_there_are(mcp: Client[Any]) -> None:
    with pytest.raises(ToolError, match=r"^invalid_input: no field 'body'. There are: number, "):
        await call(mcp, "gh_issue_list", fields=["body"])


async def test_an_issue_comes_with_comments_when_asked(mcp: Client[Any]) -> None:
    text, facts = await call(mcp, "gh_issue_get", number=1, include=["comments"], limit=2)

    shown = json.loads(text)
    assert shown["body"] == "<untrusted>Body of issue 1</untrusted>"
    assert facts["labels"] == ["bug"]
    assert len(shown["comments"]) == 2
    assert facts["next_cursor"] == shown["next_cursor"]


async def test_a_comment_cannot_close_the_fence(mcp: Client[Any]) -> None:
    text, _ = await call(mcp, "gh_issue_get", number=1, include=["comments"])

    body = json.loads(text)["comments"][0]["body"]
    assert body.count("</untrusted>") == 1
    assert body.endswith("</untrusted>")


async def test_an_issue_alone_costs_one_request(mcp: Client[Any], proxy: FaultProxy) -> None:
    text, facts = await call(mcp, "gh_issue_get", number=1)

    assert "comments" not in json.loads(text)
    assert facts["comment_count"] == 3
    assert len(proxy.calls) == 1


async def test_a_cursor_without_comments_is_refused(mcp: Client[Any]) -> None:
    with pytest.raises(ToolError, match="cursor pages through comments"):
        await call(mcp, "gh_issue_get", number=1, cursor="devops.x")


async def test_a_rate_limit_is_a_coded_tool_error_with_the_wait(
    mcp: Client[Any], proxy: FaultProxy
) -> None:
    proxy.fail(403, {"Retry-After": "42"}, b"{}")

    result = await mcp.call_tool("gh_repo_get", REPO, raise_on_error=False)

    assert result.is_error
    assert text_of(result).startswith("rate_limited: GitHub's secondary rate limit")
    assert result.meta is not None
    assert result.meta["fleet/error"] == {
        "code": "rate_limited",
        "message": "GitHub's secondary rate limit is reached",
        "retryable": True,
        "retryAfterMs": 42000,
        "scope": "secondary",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"owner": "a/b"},
        {"owner": "-a"},
        {"owner": ""},
        {"repo": ".."},
        {"repo": "a/b"},
        {"repo": "a?b"},
        {"path": "/etc/passwd"},
        {"path": "a\nb"},
        {"ref": "a b"},
        {"start_line": 0},
    ],
)
async def test_arguments_that_would_change_the_url_never_reach_github(
    mcp: Client[Any], proxy: FaultProxy, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ToolError, match=r"^invalid_input: "):
        await call(mcp, "gh_file_read", **({"path": "README.md"} | wrong))

    assert proxy.calls == []
