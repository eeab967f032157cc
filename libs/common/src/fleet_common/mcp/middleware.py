"""The one middleware of every server: caller, policy, deadline, outcome, metrics, audit, error translation.

It runs for HTTP, stdio and in-memory clients alike, so no door to a tool goes round the policy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import mcp_types
import structlog
from fastmcp.exceptions import FastMCPError, NotFoundError, ValidationError
from fastmcp.prompts import Prompt
from fastmcp.prompts.base import PromptResult
from fastmcp.resources import Resource, ResourceTemplate
from fastmcp.resources.base import ResourceResult
from fastmcp.server.completions import (
    CompletionHandler,
    CompletionReference,
    CompletionValues,
)
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.tools import InputRequiredToolResult, Tool, ToolResult
from mcp import MCPError
from pydantic import ValidationError as PydanticValidationError

from fleet_common import tracing
from fleet_common.audit import AuditLog
from fleet_common.auth import Principal
from fleet_common.deadline import TIMEOUT_HEADER, deadline
from fleet_common.errors import (
    DeadlineExceeded,
    FleetError,
    InternalError,
    InvalidInput,
    NotFound,
    UnknownTool,
)
from fleet_common.limits import CallLimits
from fleet_common.logs import request_facts, with_trace_id
from fleet_common.mcp.approval import ApprovalGate, Call, Guarded, carrying_out, split_token
from fleet_common.mcp.caching import ToolCache
from fleet_common.mcp.identity import acting_as, caller
from fleet_common.mcp.recording import Entry
from fleet_common.mcp.service import Completer, Completing
from fleet_common.metrics import Metrics
from fleet_common.policy import REGISTRY_ROLE, Grant, PolicyFile, Role, Target
from fleet_common.switches import Switches
from fleet_common.tasks import running_task

log = structlog.get_logger()

TIMEOUT_META = "fleet/timeoutMs"
ERROR_META = "fleet/error"
_UNKNOWN = "_unknown"  # keeps the cardinality of the metrics bounded whatever names callers invent

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ToolFacts:
    """What the middleware must know about a tool before it runs."""

    scope: str | None
    timeout_s: float
    guarded: Guarded
    writes: bool
    kept_for: timedelta | None = None


class FleetMiddleware(Middleware):
    """See the module."""

    def __init__(
        self,
        *,
        tools: Mapping[str, ToolFacts],
        read_scope: str,
        listed_as: Callable[[str], str],
        policy: PolicyFile,
        switches: Switches,
        limits: CallLimits,
        cache: ToolCache,
        metrics: Metrics,
        audit: AuditLog,
        local_principal: Principal | None,
        approvals: ApprovalGate,
    ) -> None:
        self._tools = tools
        self._approvals = approvals
        self._read_scope = read_scope
        self._listed_as = listed_as
        self._policy = policy
        self._switches = switches
        self._limits = limits
        self._cache = cache
        self._metrics = metrics
        self._audit = audit
        self._local = local_principal

    async def on_call_tool(
        self,
        context: MiddlewareContext[mcp_types.CallToolRequestParams],
        call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult],
    ) -> ToolResult:
        """Run the tool within policy and deadline; every outcome is counted, logged and audited."""
        started = time.monotonic()
        principal = caller(self._local)
        message = context.message
        arguments, _ = split_token(message.arguments)
        entry = Entry(self._audit, "tool", message.name, principal, arguments)
        outcome = "cancelled"
        try:
            result = await self._run_tool(context, call_next, principal, entry)
            outcome = _outcome(result)
        except MCPError:
            outcome = "protocol_error"  # the protocol's own answers, such as a missing capability, keep their code
            await entry.answered(outcome)
            raise
        except Exception as exc:  # noqa: BLE001 - the edge: everything becomes a coded error here, once
            error = translate(exc)
            outcome = error.code
            result = error_result(error)
        finally:
            self._record(message.name, principal, outcome, time.monotonic() - started, entry)
            if outcome == "cancelled":
                entry.close(outcome)
        # The handle of a task has no content, whatever the type says.
        withheld = await entry.answered(outcome, getattr(result, "content", None))
        answer = error_result(withheld) if withheld else result
        self._count_chars(message.name, getattr(answer, "content", None))
        return answer

    def _count_chars(self, tool: str, content: Sequence[object] | None) -> None:
        if tool in self._tools:
            chars = sum(len(getattr(block, "text", "")) for block in content or ())
            self._metrics.answer_chars.labels(tool=tool).inc(chars)

    async def _run_tool(
        self,
        context: MiddlewareContext[mcp_types.CallToolRequestParams],
        call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult],
        principal: Principal | None,
        entry: Entry,
    ) -> ToolResult:
        name = context.message.name
        await self._pass_turnstile(principal, "tools/call", name)
        facts = self._tools.get(name)
        if facts is None:
            raise UnknownTool(name)
        tracing.describe("tools/call", name)
        target = Target("tool", name, facts.scope)
        known, roles = self._allow(principal, target, UnknownTool(name), entry)
        entry.writes = facts.writes
        seconds = _timeout_s(context) or facts.timeout_s
        self._audit.check()  # before an approval is used up
        with acting_as(known, roles):
            admitted = await self._approvals.admit(context, facts.guarded, known, roles)
            if isinstance(admitted, InputRequiredToolResult):
                return admitted
            entry.version = admitted.plan.object_version if admitted.plan else None
            await entry.begin()
            if facts.kept_for is not None:
                call_next = self._cache.before(call_next, facts.kept_for, Grant.of(known, roles))
            with carrying_out(admitted.plan):
                return await _in_time(call_next, admitted.call, seconds)

    async def on_list_tools(
        self,
        context: MiddlewareContext[mcp_types.ListToolsRequest],
        call_next: CallNext[mcp_types.ListToolsRequest, Sequence[Tool]],
    ) -> Sequence[Tool]:
        """Return only what the caller may call: what is listed and what is callable are the same."""
        return [
            tool
            for tool in await call_next(context)
            if (facts := self._tools.get(tool.name)) is not None
            and not self._switches.hides(tool.name)
            and self._shows(Target("tool", tool.name, facts.scope))
        ]

    async def on_list_resources(
        self,
        context: MiddlewareContext[mcp_types.ListResourcesRequest],
        call_next: CallNext[mcp_types.ListResourcesRequest, Sequence[Resource]],
    ) -> Sequence[Resource]:
        """Return the resources the caller may read."""
        found = await call_next(context)
        return [each for each in found if self._shows(self._resource(str(each.uri)))]

    async def on_list_resource_templates(
        self,
        context: MiddlewareContext[mcp_types.ListResourceTemplatesRequest],
        call_next: CallNext[mcp_types.ListResourceTemplatesRequest, Sequence[ResourceTemplate]],
    ) -> Sequence[ResourceTemplate]:
        """Return the resource templates the caller may read."""
        found = await call_next(context)
        return [each for each in found if self._shows(self._resource(each.uri_template))]

    async def on_list_prompts(
        self,
        context: MiddlewareContext[mcp_types.ListPromptsRequest],
        call_next: CallNext[mcp_types.ListPromptsRequest, Sequence[Prompt]],
    ) -> Sequence[Prompt]:
        """Return the prompts the caller may use."""
        found = await call_next(context)
        return [each for each in found if self._shows(self._prompt(each.name))]

    async def on_read_resource(
        self,
        context: MiddlewareContext[mcp_types.ReadResourceRequestParams],
        call_next: CallNext[mcp_types.ReadResourceRequestParams, ResourceResult],
    ) -> ResourceResult:
        """Read a resource as the caller; refusals look like a resource that does not exist."""
        tracing.describe("resources/read")
        uri = str(context.message.uri)
        target = self._resource(self._listed_as(uri))
        return await self._guarded(target, uri, lambda: call_next(context))

    async def on_get_prompt(
        self,
        context: MiddlewareContext[mcp_types.GetPromptRequestParams],
        call_next: CallNext[mcp_types.GetPromptRequestParams, PromptResult],
    ) -> PromptResult:
        """Render a prompt as the caller; refusals look like a prompt that does not exist."""
        tracing.describe("prompts/get")
        target = self._prompt(context.message.name)
        return await self._guarded(target, target.name, lambda: call_next(context))

    def guarded_completion(
        self, complete: Completer[Any], deps: Callable[[], Any]
    ) -> CompletionHandler:
        """Return `complete` for callers who may use what it completes: FastMCP runs no hook for completion."""

        async def handler(
            ref: CompletionReference,
            argument: mcp_types.CompletionArgument,
            context: mcp_types.CompletionContext | None,
        ) -> CompletionValues:
            match ref:
                case mcp_types.PromptReference():
                    target = self._prompt(ref.name)
                case _:
                    target = self._resource(self._listed_as(ref.uri))
            principal = caller(self._local)
            decision = self._policy.decide(principal, target)
            if principal is None or not decision.allowed:
                entry = Entry(self._audit, "completion", target.name, principal)
                entry.close("not_found")
                return None
            grant = Grant.of(principal, decision.roles)
            try:
                return [*await complete(Completing(deps(), grant, ref, argument, context))]
            except FleetError as exc:  # nothing to suggest is better than no form to type into
                log.info("completion_failed", name=target.name, error=exc.code)
                return None

        return handler

    async def _guarded(self, target: Target, asked: str, use: Callable[[], Awaitable[T]]) -> T:
        principal = caller(self._local)
        entry = Entry(self._audit, target.kind, asked, principal)
        refusal = NotFound(target.kind, target.name)
        method = "prompts/get" if target.kind == "prompt" else "resources/read"
        outcome = "cancelled"
        try:
            await self._pass_turnstile(principal, method, target.name)
            with acting_as(*self._allow(principal, target, refusal, entry)):
                await entry.begin()
                used = await use()
            outcome = "ok"
        except (MCPError, NotFoundError):
            outcome = "protocol_error"
            raise  # already in the protocol's own words
        except Exception as exc:  # the edge: everything becomes a coded error here, once
            error = translate(exc)
            outcome = error.code
            tracing.failed(error.code)
            raise MCPError(error.jsonrpc_code, str(error), with_trace_id(error.to_dict())) from exc
        finally:
            entry.close(outcome)
        return used

    async def _pass_turnstile(self, principal: Principal | None, method: str, name: str) -> None:
        """Refuse what is switched off; count a call that did not come over HTTP, where the door counts."""
        if principal is None:
            return
        self._switches.check(principal, name if method == "tools/call" else None)
        if principal is self._local:
            await self._limits.spend(principal, method, name)

    def _resource(self, uri: str) -> Target:
        return Target("resource", uri, self._read_scope)

    def _prompt(self, name: str) -> Target:
        return Target("prompt", name, self._read_scope)

    def _shows(self, target: Target) -> bool:
        """Return whether a list may show `target`: what the caller may use, and everything to the registry."""
        principal = caller(self._local)
        if principal is not None and REGISTRY_ROLE in principal.roles:
            return True
        return self._policy.decide(principal, target).allowed

    def _allow(
        self, principal: Principal | None, target: Target, refusal: FleetError, entry: Entry
    ) -> tuple[Principal, tuple[Role, ...]]:
        """Return the caller and the roles that let it use `target`; else log the rule and raise `refusal`."""
        decision = self._policy.decide(principal, target)
        entry.decided(allowed=decision.allowed, rule=decision.rule)
        if decision.allowed and principal is not None:
            return principal, decision.roles
        log.info(
            "access_denied",
            kind=target.kind,
            name=target.name,
            subject=principal.subject if principal else None,
            tenant=principal.tenant if principal else None,
            rule=decision.rule,
        )
        raise refusal

    def _record(
        self,
        tool: str,
        principal: Principal | None,
        outcome: str,
        seconds: float,
        entry: Entry,
    ) -> None:
        name = tool if tool in self._tools else _UNKNOWN
        self._metrics.tool_calls.labels(tool=name, outcome=outcome).inc()
        if outcome != "ok":
            tracing.failed(outcome)
        # The audit has every call; the log has what somebody may have to look at.
        say = log.debug if outcome == "ok" else log.info
        say(
            "tool_called",
            tool=name,
            outcome=outcome,
            ms=round(seconds * 1000, 1),
            subject=principal.subject if principal else None,
            tenant=principal.tenant if principal else None,
            arguments_digest=(entry.arguments or "")[:16],
        )


async def _in_time(
    call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult], call: Call, seconds: float
) -> ToolResult:
    """Run the tool.

    Raises:
        DeadlineExceeded: it took longer than `seconds`.
    """
    scope = asyncio.timeout(seconds)
    with deadline(seconds):
        try:
            async with scope:
                return await call_next(call)
        except TimeoutError:
            if not scope.expired():
                raise
            raise DeadlineExceeded(f"{call.message.name} did not finish in {seconds:g} s") from None


def _outcome(result: object) -> str:
    if not isinstance(result, ToolResult):
        return "task"  # the handle of a task that was queued
    if isinstance(result, InputRequiredToolResult):
        return "input_required"
    return "error" if result.is_error else "ok"


def translate(exc: BaseException) -> FleetError:
    """Return the coded error for anything a tool, resource or prompt raised; defects are logged and masked."""
    cause = exc
    while isinstance(cause, FastMCPError) and cause.__cause__ is not None:
        cause = cause.__cause__
    match cause:
        case FleetError():
            return cause
        case PydanticValidationError():
            return InvalidInput(_explain(cause))
        case NotFoundError() | ValidationError():
            return InvalidInput("the request does not match any component")
        case TimeoutError():
            return DeadlineExceeded("a dependency did not answer in time")
        case _:
            log.error("call_failed", exc_info=cause)
            return InternalError(
                f"something went wrong here (request {request_facts().get('request_id', '-')})"
            )


def error_result(error: FleetError) -> ToolResult:
    """Return the tool result that carries `error`: readable text, and facts for programs in `_meta`."""
    return ToolResult(
        content=str(error), meta={ERROR_META: with_trace_id(error.to_dict())}, is_error=True
    )


def _timeout_s(context: MiddlewareContext[Any]) -> float | None:
    """Return a task's time, else the caller's from `_meta` or the header, in seconds; nonsense is as good as absent."""
    if task := running_task():
        return task.timeout_s
    request = context.fastmcp_context.request_context if context.fastmcp_context else None
    raw = (request.meta or {}).get(TIMEOUT_META) if request else None
    if raw is None and request and request.request is not None:
        raw = request.request.headers.get(TIMEOUT_HEADER)
    try:
        milliseconds = float(raw) if raw is not None else 0.0
    except (TypeError, ValueError, OverflowError):
        return None
    return min(milliseconds, 3_600_000) / 1000 if milliseconds > 0 else None


def _explain(error: PydanticValidationError) -> str:
    """Return where and what, never the value: a wrong argument may be a secret."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in p['loc']) or 'arguments'}: {p['msg']}"
        for p in problems[:8]
    )
