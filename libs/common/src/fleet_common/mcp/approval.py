"""Between policy and tool: a call that needs an approval has one, or ends here.

How a person is asked, the first that can be done:
1. 2026-07-28: the call is answered with a question (`InputRequiredResult`) and comes back with the answer and the
   sealed `requestState`.
2. a client that the server can ask back (stdio): elicitation, while the call waits.
3. two steps, where the policy says that is enough: the call is answered with a token, and comes back with it as
   the argument `confirm_token`. That proves two calls, not a person.
4. out of band: the call is answered with an id, somebody approves that at the gateway, the same call then works
   once.
When a second person must approve, only the last will do. When none can be done, the call is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, cast

import mcp_types
from fastmcp import Context
from fastmcp.dependencies import Depends
from fastmcp.server.middleware import MiddlewareContext
from fastmcp.tools import InputRequiredToolResult, Tool
from mcp import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from fleet_common.approvals import Approvals, Ask, Plan
from fleet_common.approvals.models import LIFETIME
from fleet_common.approvals.planning import Planner
from fleet_common.approvals.rules import Confirmation, confirmation_for
from fleet_common.audit import AuditEvent, AuditLog
from fleet_common.auth import Principal
from fleet_common.deadline import deadline
from fleet_common.errors import (
    ApprovalDenied,
    ApprovalInvalid,
    ApprovalRequired,
    DeadlineExceeded,
    NotConfigured,
)
from fleet_common.logs import request_facts
from fleet_common.metrics import Metrics
from fleet_common.policy import Grant, PolicyFile, Role
from fleet_common.tasks import running_task

CONFIRM_ARGUMENT = "confirm_token"
_QUESTION = "approval"
_LIFE_S = LIFETIME.total_seconds()
_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "approve": {
            "type": "boolean",
            "title": "Approve",
            "description": "Yes lets this one call go ahead.",
        }
    },
    "required": ["approve"],
}
# An argument and not `_meta`: a model fills arguments, and no client lets it write `_meta`.
_CONFIRM_SCHEMA: dict[str, Any] = {
    "type": "string",
    "description": "Token from the first answer.",
}

Call = MiddlewareContext[mcp_types.CallToolRequestParams]

_plan: ContextVar[Plan | None] = ContextVar("fleet_plan", default=None)


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the gate must know about a tool.

    Attributes:
        planner: says what a call would do.
        by_default: calls need a person unless the policy says otherwise.
        timeout_s: time that planning has.
    """

    planner: Planner
    by_default: bool
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call that may go ahead, with the plan that was approved; no plan when none was needed."""

    call: Call
    plan: Plan | None = None


class ApprovalGate:
    """See the module."""

    def __init__(
        self, approvals: Approvals, policy: PolicyFile, audit: AuditLog, metrics: Metrics
    ) -> None:
        self._approvals = approvals
        self._decisions = metrics.approvals
        self._audit = audit
        self._policy = policy

    async def admit(
        self, call: Call, tool: Guarded, principal: Principal, roles: tuple[Role, ...]
    ) -> Admitted | InputRequiredToolResult:
        """Return the call that may go ahead, or the question that the client must bring an answer to.

        Raises:
            ApprovalRequired: a person must approve, or the call must be repeated with a token.
            ApprovalDenied: a person said no.
            ApprovalInvalid: the confirmation that came with the call cannot be used.
            NotConfigured: this client cannot be asked and there is no other way.
            Unavailable: whether there is an approval cannot be known now.
        """
        if task := running_task():
            return Admitted(call, task.plan)  # it was approved before it was queued
        name, (arguments, token) = call.message.name, split_token(call.message.arguments)
        need = confirmation_for(self._policy.current.approvals, name, by_default=tool.by_default)
        if tool.by_default or token is not None:
            message = call.message.model_copy(update={"arguments": arguments})
            call = call.copy(message=message)
        if need.confirm == "none":
            return Admitted(call)
        plan = await _planned(call, tool, Grant.of(principal, roles), arguments)
        if plan is None:
            return Admitted(call)
        ask = Ask.of(principal, name, arguments, plan)
        question = await self._confirm(_context(call), ask, need, token)
        return question or Admitted(call, plan)

    async def _confirm(
        self, ctx: Context, ask: Ask, need: Confirmation, token: str | None
    ) -> InputRequiredToolResult | None:
        """Return None once the ask is approved, or the question to send."""
        if token is not None:
            if need.confirm != "two_step" or need.second_person:
                raise ApprovalInvalid(f"{ask.tool} takes no {CONFIRM_ARGUMENT} here")
            await self._approvals.seals.redeem(token, ask, "two_step")
            self._record("approve", ask, "two_step", ask.subject)
            return None
        if not need.second_person and _can_be_asked(ctx):
            if ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS:
                return await self._ask_by_round_trip(ctx, ask)
            if ctx.session.can_send_request:
                await self._ask_back(ctx, ask)
                return None
        if need.confirm == "two_step" and not need.second_person:
            raise _required_token(self._approvals.seals.issue(ask, "two_step"), ask)
        await self._ask_elsewhere(ask, need)
        return None

    async def _ask_by_round_trip(self, ctx: Context, ask: Ask) -> InputRequiredToolResult | None:
        if ctx.request_state is None:
            params = mcp_types.ElicitRequestFormParams(
                message=ask.message(), requested_schema=_FORM
            )
            question = mcp_types.InputRequiredResult(
                input_requests={_QUESTION: mcp_types.ElicitRequest(params=params)},
                request_state=self._approvals.seals.issue(ask, "answer"),
            )
            return InputRequiredToolResult(question)
        # First of all, so that no answer, a no included, can be exchanged for another one.
        await self._approvals.seals.redeem(ctx.request_state, ask, "answer")
        self._decide(ask, (ctx.input_responses or {}).get(_QUESTION), "round_trip")
        return None

    async def _ask_back(self, ctx: Context, ask: Ask) -> None:
        try:
            async with asyncio.timeout(_LIFE_S):
                answer = await ctx.session.elicit_form(ask.message(), _FORM, ctx.request_id)
        except TimeoutError:
            raise DeadlineExceeded(f"nobody answered the question in {_LIFE_S:g} s") from None
        except MCPError as exc:
            raise ApprovalDenied("the client did not show the question to anybody") from exc
        self._decide(ask, answer, "elicitation")

    async def _ask_elsewhere(self, ask: Ask, need: Confirmation) -> None:
        desk = self._approvals.desk
        if desk is None:
            raise NotConfigured(
                f"{ask.tool} needs a person's approval, and this client cannot ask one",
                hint="Use a client with elicitation, or have the operator configure a Redis for approvals",
            )
        claim = await desk.claim(ask, second_person=need.second_person)
        if claim.request is None:
            self._record("approve", ask, "out_of_band", claim.approver)
            return
        if claim.verdict == "denied":
            self._decisions.labels(decision="reject").inc()
            raise ApprovalDenied(f"a person said no to this call of {ask.tool}")
        self._decisions.labels(decision="asked").inc()
        where = f"{self._approvals.url}/{claim.request.id}" if self._approvals.url else None
        raise ApprovalRequired(
            f"{claim.request.lines[0]}: this needs {'a second' if need.second_person else 'a'} person's approval",
            hint=f"Ask the user to run `fleet approve {claim.request.id}`"
            f"{f' or to open {where}' if where else ''}, then repeat this very call",
            facts={
                "id": claim.request.id,
                "url": where,
                "expiresInMs": round(claim.request.remaining_s * 1000),
            },
        )

    def _decide(self, ask: Ask, answer: object, way: str) -> None:
        """Return when the person said yes.

        Raises:
            ApprovalDenied: anything else.
        """
        yes = (
            isinstance(answer, mcp_types.ElicitResult)
            and answer.action == "accept"
            and (answer.content or {}).get("approve") is True
        )
        self._record("approve" if yes else "reject", ask, way, ask.subject)
        if not yes:
            raise ApprovalDenied(f"the user said no to this call of {ask.tool}")

    def _record(
        self, decision: Literal["approve", "reject"], ask: Ask, way: str, approver: str | None
    ) -> None:
        """Record who decided and how; a write commits its own record after this one, so this one is durable too."""
        self._decisions.labels(decision=decision).inc()
        bound = request_facts()
        self._audit.append(
            AuditEvent(
                action="tool",
                target=ask.tool,
                decision=decision,
                outcome="ok",
                rule=f"{way} by {approver}, approval {ask.id}",
                subject=ask.subject,
                tenant=ask.tenant,
                request_id=bound.get("request_id"),
                trace_id=bound.get("trace_id"),
            )
        )


@contextmanager
def carrying_out(plan: Plan | None) -> Iterator[None]:
    """Make `plan` what `CurrentPlan` gives while the block runs."""
    reset = _plan.set(plan)
    try:
        yield
    finally:
        _plan.reset(reset)


def approved_plan() -> Plan | None:
    """Return the plan that the current call carries out, or None when no approval was needed."""
    return _plan.get()


def CurrentPlan() -> Any:  # noqa: N802 - a dependency reads like FastMCP's CurrentContext()
    """Return the dependency that gives a tool the plan that was approved, or None when no approval was needed.

    The tool changes the object only if it still is at the plan's `object_version`.
    """
    # Any: Depends returns a marker that FastMCP replaces by the value before the tool runs.
    return cast(Any, Depends(approved_plan))


def show_confirm_argument(tool: Tool) -> None:
    """Add `confirm_token` to what a tool says it takes; the gate takes it out of the call again."""
    tool.parameters.setdefault("properties", {})[CONFIRM_ARGUMENT] = _CONFIRM_SCHEMA


def split_token(arguments: Mapping[str, Any] | None) -> tuple[dict[str, Any], str | None]:
    """Return the arguments that the approval is bound to, and the token that came with them."""
    rest = dict(arguments or {})
    token = rest.pop(CONFIRM_ARGUMENT, None)
    return rest, None if token is None else str(token)


def _context(call: Call) -> Context:
    if call.fastmcp_context is None:
        raise NotConfigured("a call outside of a request cannot be approved")
    return call.fastmcp_context


async def _planned(
    call: Call, tool: Guarded, grant: Grant, arguments: Mapping[str, Any]
) -> Plan | None:
    deps = _context(call).lifespan_context.get("deps")
    with deadline(tool.timeout_s):
        async with asyncio.timeout(tool.timeout_s):
            return await tool.planner(arguments, grant, deps)


def _can_be_asked(ctx: Context) -> bool:
    """Return whether the client says that it shows forms; `{}` means forms (MCP, "Elicitation")."""
    capabilities = ctx.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def _required_token(token: str, ask: Ask) -> ApprovalRequired:
    return ApprovalRequired(
        f"{ask.plan.lines()[0]}: this needs a confirmation",
        hint=f"If the user wants exactly this, repeat this very call with {CONFIRM_ARGUMENT} {token}",
        facts={
            "confirmToken": token,
            "plan": ask.plan.lines(),
            "expiresInMs": round(_LIFE_S * 1000),
        },
    )
