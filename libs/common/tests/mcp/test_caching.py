"""Cached tools: what may be one, and whose answers are whose."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import mcp_types
import pytest
from fastmcp import Client
from fastmcp.dependencies import Depends
from fastmcp.server.middleware import MiddlewareContext
from fastmcp.tools import ToolResult, tool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp_types import TextContent, ToolAnnotations

from fleet_common.auth import Principal
from fleet_common.cache import Cache
from fleet_common.errors import NotFound
from fleet_common.mcp import CurrentGrant, CurrentPrincipal, Runtime, Service, cached
from fleet_common.mcp.caching import ToolCache
from fleet_common.mcp.server import create_server
from fleet_common.metrics import Metrics
from fleet_common.policy import Grant
from fleet_common.redis import create_redis
from fleet_common.settings import ServiceSettings
from fleet_common.testing import principal, viewer
from fleet_common.testing.wire import text

MINUTE = timedelta(minutes=1)
READS = ToolAnnotations(read_only_hint=True)


async def read() -> str:
    """Read."""
    return "read"


def who_asks(principal: Principal = CurrentPrincipal()) -> str:
    return principal.subject


async def knows_its_caller(principal: Principal = CurrentPrincipal()) -> str:
    """Read."""
    return principal.subject


async def knows_it_through_another(subject: str = Depends(who_asks)) -> str:
    """Read."""
    return subject


@pytest.mark.parametrize(
    "fn",
    [
        read,
        tool(read),
        tool(annotations=ToolAnnotations(read_only_hint=False))(read),
        tool(annotations=ToolAnnotations(idempotent_hint=True))(read),
        tool(annotations=READS)(knows_its_caller),
        tool(annotations=READS)(knows_it_through_another),
    ],
    ids=["no tool", "says nothing", "writes", "idempotent", "knows", "knows deeply"],
)
def test_a_tool_that_may_write_or_knows_its_caller_cannot_be_declared_cached(fn: Any) -> None:
    with pytest.raises(TypeError):
        cached(MINUTE)(fn)


WORDS = st.sampled_from(["a", "b", "ab", 'a"', "a,b"])
CALLS = st.fixed_dictionaries(
    {
        "service": st.sampled_from(["data", "aiml"]),
        "name": st.sampled_from(["crm_search", "crm_get"]),
        "arguments": st.dictionaries(WORDS, WORDS | st.integers(0, 1) | st.booleans(), max_size=2),
        "tenant": WORDS,
        "roles": st.frozensets(WORDS, max_size=2),
        "scopes": st.frozensets(WORDS, max_size=2),
        "max_rows": st.none() | st.integers(1, 2),
        "repositories": st.tuples(WORDS),
        "namespaces": st.tuples(WORDS),
        "masks": st.frozensets(WORDS, max_size=2),
    }
)


def one_by_one(call: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    """Return both calls, and for each fact the first call with only that of the other."""
    return [call, *({**call, fact: other[fact]} for fact in call), other]


def told(call: dict[str, Any]) -> str:
    """Return all facts of a call, the same text for the same facts."""
    return json.dumps(call, sort_keys=True, default=sorted)


async def asked(cache: Cache, version: str, call: dict[str, Any]) -> str:
    """Return what one call is given; by itself it would be told its own facts."""
    facts = dict(call)
    service, name, arguments = (facts.pop(each) for each in ("service", "name", "arguments"))
    who = Principal("key:any", facts.pop("tenant"), facts.pop("roles"), "key")
    context = MiddlewareContext(
        message=mcp_types.CallToolRequestParams(name=name, arguments=arguments)
    )

    async def answer(
        context: MiddlewareContext[mcp_types.CallToolRequestParams],
    ) -> ToolResult:
        return ToolResult(content=told(call))

    tools = ToolCache(cache, service, version)
    result = await tools.before(answer, MINUTE, Grant(who, **facts))(context)
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(call=CALLS, other=CALLS)
async def test_nobody_is_ever_given_an_answer_that_was_made_for_others(
    redis_url: str, call: dict[str, Any], other: dict[str, Any]
) -> None:
    redis = create_redis(redis_url, timeout_s=8)
    cache, version = Cache(redis, Metrics("test")), secrets.token_hex(4)
    try:
        for each in one_by_one(call, other):
            given_to = await asked(cache, version, each)
            assert given_to == told(each)
    finally:
        await redis.aclose(close_connection_pool=True)


class Counter:
    """How often the tool itself ran, and whether it fails."""

    def __init__(self) -> None:
        self.runs = 0
        self.fails = False


COUNTER = Counter()


@cached(MINUTE)
@tool(annotations=READS)
async def note_count(topic: str, grant: Grant = CurrentGrant()) -> dict[str, Any]:
    """Count."""
    COUNTER.runs += 1
    if COUNTER.fails:
        raise NotFound("topic", topic)
    return {"tenant": grant.principal.tenant, "topic": topic, "run": COUNTER.runs}


@pytest.fixture
def counter() -> Counter:
    COUNTER.__init__()  # type: ignore[misc]  # one per test: the tool is declared once, as tools are
    return COUNTER


@pytest.fixture
def counting(service: Service[Any, Any]) -> Service[Any, Any]:
    """A version of its own for each test, so that no other test's answers are found."""
    return replace(service, version=f"1.0.{secrets.randbelow(10**9)}", tools=(note_count,))


@asynccontextmanager
async def calling(
    service: Service[Any, Any], redis_url: str | None, who: Principal, **told: Any
) -> AsyncGenerator[Client[Any]]:
    config = ServiceSettings(redis_url=redis_url, **told)
    runtime = Runtime.create(service.name, service.version, config)
    server = create_server(service, config, runtime=runtime, local_principal=who)
    async with Client(server) as client:
        yield client


async def test_a_second_call_finds_the_first_ones_answer_and_its_age(
    counting: Service[Any, Any], redis_url: str, counter: Counter
) -> None:
    async with calling(counting, redis_url, viewer()) as one:
        first = await one.call_tool("note_count", {"topic": "x"})
    async with calling(counting, redis_url, viewer()) as other:
        second = await other.call_tool("note_count", {"topic": "x"})
        third = await other.call_tool("note_count", {"topic": "y"})
    assert counter.runs == 2
    assert (text(second), second.structured_content) == (text(first), first.structured_content)
    assert second.meta is not None
    assert second.meta["fleet/cache"]["ageMs"] >= 0
    assert third.structured_content == {"tenant": "demo", "topic": "y", "run": 2}


async def test_tenants_and_versions_never_meet(
    counting: Service[Any, Any], redis_url: str, counter: Counter
) -> None:
    newer = replace(counting, version=f"{counting.version}1")
    tenants = []
    for service, who in ((counting, viewer("a")), (counting, viewer("b")), (newer, viewer("a"))):
        async with calling(service, redis_url, who) as client:
            result = await client.call_tool("note_count", {"topic": "x"})
            tenants.append((result.structured_content or {})["tenant"])
    assert tenants == ["a", "b", "a"]
    assert counter.runs == 3


async def test_the_policy_comes_before_the_cache(
    counting: Service[Any, Any], redis_url: str, counter: Counter
) -> None:
    async with calling(counting, redis_url, viewer()) as client:
        await client.call_tool("note_count", {"topic": "x"})
    async with calling(counting, redis_url, principal("nobody")) as client:
        refused = await client.call_tool("note_count", {"topic": "x"}, raise_on_error=False)
    assert text(refused).startswith("unknown_tool")


async def test_errors_are_not_kept(
    counting: Service[Any, Any], redis_url: str, counter: Counter
) -> None:
    counter.fails = True
    async with calling(counting, redis_url, viewer()) as client:
        failed = await client.call_tool("note_count", {"topic": "x"}, raise_on_error=False)
        counter.fails = False
        worked = await client.call_tool("note_count", {"topic": "x"})
    assert failed.is_error
    assert (worked.structured_content or {})["run"] == 2


async def test_a_changed_reach_is_a_new_question(
    counting: Service[Any, Any], redis_url: str, counter: Counter, tmp_path: Path
) -> None:
    path = tmp_path / "policy.yaml"
    for rows in (10, 20, 10):
        role = {"scopes": ["data:read"], "max_rows": rows}
        path.write_text(json.dumps({"version": 1, "roles": {"viewer": role}}))
        async with calling(counting, redis_url, viewer(), policy_file=path) as client:
            await client.call_tool("note_count", {"topic": "x"})
    assert counter.runs == 2


async def test_without_redis_the_tool_runs_each_time(
    counting: Service[Any, Any], counter: Counter
) -> None:
    async with calling(counting, None, viewer()) as client:
        for _ in range(2):
            await client.call_tool("note_count", {"topic": "x"})
    assert counter.runs == 2
