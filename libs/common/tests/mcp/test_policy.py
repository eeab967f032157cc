"""Through a real server: whatever the policy, the caller and the catalogue, listed is callable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from fastmcp import Client
from fastmcp.prompts import prompt
from fastmcp.resources import resource
from fastmcp.tools import tool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp import MCPError
from mcp_types import PromptReference, ResourceTemplateReference, ToolAnnotations

from fleet_common.auth import Principal
from fleet_common.mcp import Completing, CurrentGrant, Runtime, Service
from fleet_common.mcp.server import create_server
from fleet_common.policy import REGISTRY_ROLE, Grant, Policy, PolicyFile
from fleet_common.settings import ServiceSettings
from fleet_common.testing import principal, wait_until
from fleet_common.testing.wire import text

Era = Literal["auto", "legacy"]
NAMES = ["crm_search", "crm_upsert", "db_query", "gh_repo_get", "k8s_list"]
URIS = ["crm://schema/{object}", "crm://deal/{object}", "doc://{object}"]
SCOPES = ["data:read", "data:write", "data:admin"]
GLOBS = ["*", "crm_*", "*_get", "db_query", "crm://*", "crm://schema/*", "doc://[{]*", "[!c]*", "x"]
ROLES = ["one", "two", "three"]
TENANTS = ["demo", "acme"]

globs = st.lists(st.sampled_from(GLOBS), max_size=3)
roles = st.fixed_dictionaries(
    {"scopes": st.sets(st.sampled_from(SCOPES))},
    optional={
        "tools": globs,
        "prompts": globs,
        "resources": globs,
        "deny": st.lists(st.sampled_from(GLOBS[1:]), max_size=2),
        "tenants": st.lists(st.sampled_from(["*", *TENANTS]), max_size=1),
    },
)
policies = st.dictionaries(st.sampled_from(ROLES), roles).map(
    lambda found: Policy.model_validate({"version": 1, "roles": found})
)
callers = st.none() | st.builds(
    Principal,
    subject=st.just("key:test"),
    tenant=st.sampled_from(TENANTS),
    roles=st.frozensets(st.sampled_from([*ROLES, "unknown"])),
    kind=st.just("oauth"),
    scopes=st.none() | st.frozensets(st.sampled_from(SCOPES)),
)
catalogues = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from(["reads", "writes", *SCOPES]), max_size=len(NAMES)
)


def a_tool(name: str, needs: str) -> Callable[..., Any]:
    async def call() -> str:
        return name

    meta = {"fleet/scope": needs} if ":" in needs else None
    hints = ToolAnnotations(read_only_hint=needs == "reads")
    return tool(name=name, annotations=hints, meta=meta)(call)


async def suggest(_asked: Completing[None]) -> list[str]:
    return ["suggested"]


def a_prompt(name: str) -> Callable[..., Any]:
    async def render() -> str:
        return name

    return prompt(name=name)(render)


def a_template(uri: str) -> Callable[..., Any]:
    async def read(object: str) -> str:  # noqa: A002 - the name in the template
        return object

    return resource(uri, name=uri.replace("://{object}", ""))(read)


@asynccontextmanager
async def nothing(_settings: ServiceSettings, _runtime: Runtime) -> AsyncGenerator[None]:
    yield None


def connected(
    policy: PolicyFile, caller: Principal | None, tools: dict[str, str], era: Era = "auto"
) -> Client[Any]:
    configured = ServiceSettings()
    service = Service(
        name="data",
        version="1",
        instructions="",
        settings=ServiceSettings,
        open_deps=nothing,
        tools=tuple(a_tool(*each) for each in tools.items()),
        prompts=tuple(a_prompt(name) for name in NAMES),
        resources=tuple(a_template(uri) for uri in URIS),
        complete=suggest,
    )
    runtime = replace(Runtime.create("data", "1", configured), policy=policy)
    server = create_server(service, configured, runtime=runtime, local_principal=caller)
    return Client(server, mode=era)


async def works(use: Awaitable[Any]) -> bool:
    """Return whether a component answered; a refusal must look like something that is not there."""
    try:
        result = await use
    except MCPError as exc:
        assert "not_found" in str(exc)  # noqa: PT017 - the other outcome is no failure
        return False
    if getattr(result, "is_error", False):
        assert text(result).startswith("unknown_tool: ")
        return False
    return True


async def suggests(client: Client[Any], ref: Any) -> bool:
    return (await client.complete(ref, {"name": "object", "value": ""})).values == ["suggested"]


@given(policy=policies, caller=callers, tools=catalogues, era=st.sampled_from(["auto", "legacy"]))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_listed_is_callable(
    policy: Policy, caller: Principal | None, tools: dict[str, str], era: Era
) -> None:
    asyncio.run(listed_is_callable(policy, caller, tools, era))


async def listed_is_callable(
    policy: Policy, caller: Principal | None, tools: dict[str, str], era: Era
) -> None:
    async with connected(PolicyFile.fixed(policy), caller, tools, era) as client:
        listed = {each.name for each in await client.list_tools()}
        for name in [*NAMES, "fleet_whoami"]:
            is_listed = name in listed
            assert await works(client.call_tool(name, raise_on_error=False)) is is_listed, name
        prompts = {each.name for each in await client.list_prompts()}
        for name in NAMES:
            assert await works(client.get_prompt(name)) is (name in prompts), name
            ref = PromptReference(type="ref/prompt", name=name)
            assert await suggests(client, ref) is (name in prompts), name
        templates = {each.uri_template for each in await client.list_resource_templates()}
        for uri in URIS:
            read = client.read_resource(uri.replace("{object}", "any"))
            assert await works(read) is (uri in templates), uri
            template = ResourceTemplateReference(type="ref/resource", uri=uri)
            assert await suggests(client, template) is (uri in templates), uri


async def test_the_registry_sees_every_name_and_calls_nothing() -> None:
    nobody = PolicyFile.fixed(Policy(version=1))
    registry = principal(REGISTRY_ROLE)
    async with connected(nobody, registry, dict.fromkeys(NAMES, "writes")) as client:
        listed = {each.name for each in await client.list_tools()}
        assert listed == {*NAMES, "fleet_whoami", "fleet_audit_search"}
        assert len(await client.list_prompts()) == len(NAMES)
        assert not await works(client.call_tool("crm_upsert", raise_on_error=False))
        assert not await works(client.get_prompt("crm_upsert"))
        assert not await suggests(client, PromptReference(type="ref/prompt", name="crm_upsert"))
        assert not await works(client.read_resource("crm://deal/any"))


async def test_a_changed_role_changes_what_the_same_caller_may_do(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    before = "version: 1\nroles:\n  one: {scopes: ['data:read']}\n"
    await asyncio.to_thread(path.write_text, before)
    async with connected(PolicyFile(path), principal("one"), {"crm_search": "reads"}) as client:
        assert await works(client.call_tool("crm_search", raise_on_error=False))
        await asyncio.to_thread(path.write_text, before.replace("data:read", "data:write"))

        async def is_refused() -> bool:
            return not await works(client.call_tool("crm_search", raise_on_error=False))

        await wait_until(is_refused)
        assert "crm_search" not in {each.name for each in await client.list_tools()}


@tool(annotations=ToolAnnotations(read_only_hint=True))
async def crm_reach(grant: Grant = CurrentGrant()) -> str:
    """Say how far the caller reaches."""
    return f"{grant.rows(200)} {sorted(grant.masks)} {grant.principal.subject}"


async def test_a_tool_reads_how_far_the_roles_that_allow_it_reach() -> None:
    rules = {
        "analyst": {"scopes": ["data:read"], "max_rows": 20, "masks": ["email"]},
        "operator": {"scopes": ["devops:read"]},
    }
    policy = PolicyFile.fixed(Policy.model_validate({"version": 1, "roles": rules}))
    configured = ServiceSettings()
    service = Service(
        name="data",
        version="1",
        instructions="",
        settings=ServiceSettings,
        open_deps=nothing,
        tools=(crm_reach,),
    )
    runtime = replace(Runtime.create("data", "1", configured), policy=policy)
    caller = principal("analyst", "operator")
    server = create_server(service, configured, runtime=runtime, local_principal=caller)
    async with Client(server) as client:
        result = await client.call_tool("crm_reach")
    assert result.data == f"20 ['email'] {caller.subject}"
