"""From a declared service to a FastMCP server, with the fleet's middleware and nothing of FastMCP's own."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import fastmcp
from fastmcp import FastMCP
from fastmcp.resources import Resource, ResourceTemplate
from fastmcp.tools import Tool
from fastmcp.utilities.tasks import TaskConfig
from mcp.server.context import ServerRequestContext
from mcp.server.request_state import RequestStateSecurity

from fleet_common.approvals.models import LIFETIME
from fleet_common.approvals.planning import plain_planner, planner_of
from fleet_common.auth import Principal
from fleet_common.health import Check
from fleet_common.mcp.approval import ApprovalGate, Guarded, show_confirm_argument
from fleet_common.mcp.audit_search import audit_search
from fleet_common.mcp.caching import ToolCache, kept_for
from fleet_common.mcp.compact import short
from fleet_common.mcp.declared import is_confirmed, only_reads, scope_of
from fleet_common.mcp.fixed import FixedTools
from fleet_common.mcp.identity import caller
from fleet_common.mcp.middleware import FleetMiddleware, ToolFacts
from fleet_common.mcp.runtime import Runtime
from fleet_common.mcp.service import DepsT, Service, SettingsT
from fleet_common.mcp.whoami import fleet_whoami
from fleet_common.settings import ServiceSettings
from fleet_common.tasks import QueueDepth

# FastMCP logs a traceback for every error a tool raises, expected refusals included. The fleet's middleware
# logs each call once, and defects with their traceback, so this logger would only repeat it.
logging.getLogger("fastmcp.server.server").setLevel(logging.CRITICAL)
_LIST_TTL_S = (
    10  # a list may be this old at a client when the policy changes; calls follow within a second
)


def create_server(
    service: Service[SettingsT, DepsT],
    settings: SettingsT,
    *,
    runtime: Runtime | None = None,
    open_deps: Callable[[SettingsT, Runtime], AbstractAsyncContextManager[DepsT]] | None = None,
    local_principal: Principal | None = None,
    offers_tasks: bool = True,
) -> FastMCP[Any]:
    """Return the MCP server of `service`.

    Args:
        service: what to serve.
        settings: its settings.
        runtime: metrics and health to use; a fresh one by default.
        open_deps: replaces the service's own, so that a test can bring small fakes.
        local_principal: the caller when there is no HTTP request (stdio, in-memory); None refuses them.
        offers_tasks: whether tools that may run as tasks do, when there is a Redis.
    """
    run = runtime or Runtime.create(service.name, service.version, settings)
    # Its spans carry the texts of exceptions; ours do not, and one per hop is enough. "off" still builds every
    # attribute; the other mode is free, but would put the client's context above our own span.
    fastmcp.settings.telemetry_mode = "off" if run.tracing.is_wanted else "propagation_only"
    opened: dict[str, Any] = {}
    server = FixedTools(
        f"fleet-{service.name}",
        service.instructions,
        version=service.version,
        lifespan=_lifespan(service, settings, run, open_deps or service.open_deps, opened),
        mask_error_details=True,
        cache_ttl=_LIST_TTL_S,
        cache_scope="private",
        request_state_security=_state_security(run, local_principal),
    )
    functions = (*service.tools, fleet_whoami, audit_search(service.name, run.audit))
    url = settings.redis_url if offers_tasks else None
    tools = [server.add_tool(_tool(fn, may_be_task=url is not None)) for fn in functions]
    resources = [server.add_resource(fn) for fn in service.resources]
    for prompt in service.prompts:
        server.add_prompt(prompt)
    facts = {
        tool.name: _facts(tool, fn, service.name, settings)
        for tool, fn in zip(tools, functions, strict=True)
    }
    middleware = _middleware(service, run, facts, _component_of(resources), local_principal)
    server.add_middleware(middleware)
    if service.complete is not None:
        guarded = middleware.guarded_completion(service.complete, lambda: opened["deps"])
        server.add_completion_handler(guarded)
    if url is not None and run.redis is not None and any(map(_may_be_task, tools)):
        # docket and FastMCP's tasks cost a third of a second to import.
        from fleet_common.mcp.tasks import FleetTasks  # noqa: PLC0415

        server.add_extension(FleetTasks(run, url.get_secret_value(), settings, local_principal))
        QueueDepth(run.redis, service.name).export(run.metrics, service.name)
    server.fix(tools)
    return server


def _lifespan(
    service: Service[SettingsT, DepsT],
    settings: SettingsT,
    run: Runtime,
    open_deps: Callable[[SettingsT, Runtime], AbstractAsyncContextManager[DepsT]],
    opened: dict[str, Any],
) -> Callable[[FastMCP[Any]], AbstractAsyncContextManager[dict[str, Any]]]:
    @asynccontextmanager
    async def lifespan(_: FastMCP[Any]) -> AsyncGenerator[dict[str, Any]]:
        async with run.opened(), open_deps(settings, run) as deps:
            own = (Check("audit", run.audit.probe), *run.switches.checks())
            run.health.watch((*own, *service.checks(deps)))
            run.health.export(run.metrics)
            opened["deps"] = deps
            yield {"deps": deps}

    return lifespan


def _middleware(
    service: Service[SettingsT, DepsT],
    run: Runtime,
    tools: Mapping[str, ToolFacts],
    listed_as: Callable[[str], str],
    local: Principal | None,
) -> FleetMiddleware:
    return FleetMiddleware(
        tools=tools,
        read_scope=f"{service.name}:read",
        listed_as=listed_as,
        policy=run.policy,
        switches=run.switches,
        limits=run.limits,
        cache=ToolCache(run.cache, service.name, service.version),
        metrics=run.metrics,
        audit=run.audit,
        local_principal=local,
        approvals=ApprovalGate(run.approvals, run.policy, run.audit, run.metrics),
    )


def _component_of(resources: Sequence[Resource | ResourceTemplate]) -> Callable[[str], str]:
    """Return what tells the name a URI is listed under: its own, or its template's, the first one that fits.

    So the policy is asked the same question for a list and for a read.
    """
    templates = [each for each in resources if isinstance(each, ResourceTemplate)]
    own = {str(each.uri) for each in resources if isinstance(each, Resource)}

    def name(uri: str) -> str:
        fitting = (each.uri_template for each in templates if each.matches(uri) is not None)
        return uri if uri in own else next(fitting, uri)

    return name


def _state_security(runtime: Runtime, local: Principal | None) -> RequestStateSecurity:
    """Return how what a client carries between two rounds of a call is sealed: the same in all replicas."""

    def bind_principal(_: ServerRequestContext[Any, Any]) -> str | None:
        principal = caller(local)
        return f"{principal.tenant}/{principal.subject}" if principal else None

    return RequestStateSecurity(
        keys=[runtime.approvals.key], ttl=LIFETIME.total_seconds(), bind_principal=bind_principal
    )


def _tool(fn: Callable[..., Any] | Tool, *, may_be_task: bool) -> Tool:
    """Return the tool that `fn` declares, listed in few words unless it was made by hand.

    Without a queue it runs inline only, and says so in lists.
    """
    tool = fn if isinstance(fn, Tool) else short(Tool.from_function(fn))
    if may_be_task or not _may_be_task(tool):
        return tool
    return tool.model_copy(update={"task_config": TaskConfig(mode="forbidden")})


def _may_be_task(tool: Tool) -> bool:
    return tool.task_config.supports_tasks()


def _facts(
    tool: Tool, fn: Callable[..., Any], service: str, settings: ServiceSettings
) -> ToolFacts:
    timeout_s = tool.timeout or settings.default_timeout_s
    by_default = is_confirmed(tool, fn)
    if by_default:
        show_confirm_argument(tool)
    planner = planner_of(fn) or plain_planner(tool.title or tool.name)
    return ToolFacts(
        scope=scope_of(tool, service),
        timeout_s=timeout_s,
        guarded=Guarded(planner, by_default, timeout_s),
        writes=not only_reads(tool),
        kept_for=kept_for(fn),
    )
