"""Slack as a model sees it."""

from __future__ import annotations

from typing import Annotated

from fastmcp.dependencies import Depends
from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from fleet_common.approvals import Plan, needs_approval
from fleet_common.mcp import CurrentDeps, CurrentPlan, touches
from fleet_common.mcp.declared import SCOPE_META
from fleet_common.mcp.params import IdempotencyKey
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.connectors.slack.repository import PostRepository
from fleet_data.connectors.slack.service import Message, Posted, Slack
from fleet_data.deps import Deps, get_caller

_POSTS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True
)


def get_slack(deps: Deps = CurrentDeps()) -> Slack:
    """Return Slack."""
    return Slack(deps.credentials, PostRepository(deps.database))


class PostArguments(BaseModel):
    """What a plan needs to know of a call of connector_slack_post."""

    channel: str
    text: str
    idempotency_key: str | None = None


async def plan_slack_post(arguments: PostArguments, grant: Grant, deps: Deps) -> Plan | None:
    """Return where the message would go, for whoever is asked to approve it."""
    told = (arguments.channel, arguments.text, arguments.idempotency_key)
    return await get_slack(deps).plan(Message(get_caller(grant), *told))


@needs_approval(plan=plan_slack_post)
@tool(
    title="Post to Slack",
    meta={SCOPE_META: "data:send", **touches("public")},
    annotations=_POSTS,
    tags={"connector"},
)
async def connector_slack_post(  # noqa: PLR0917 - parameters of a tool are named
    channel: Annotated[
        str,
        Field(pattern=r"^(#[^\s#]{1,80}|[CGD][A-Z0-9]{5,20})$", description="`#name`, or an id."),
    ],
    text: Annotated[str, Field(min_length=1, max_length=4000, description="Plain text.")],
    idempotency_key: IdempotencyKey = None,
    plan: Plan | None = CurrentPlan(),  # noqa: ARG001 - asks for the approval
    caller: Caller = Depends(get_caller),
    slack: Slack = Depends(get_slack),
) -> Posted:
    """Post a message to a channel of the connected Slack workspace; a person is asked first. Mentions nobody.

    With an `idempotency_key` a repeated call never posts twice; `unknown` means that nobody can tell: do not repeat it.
    """
    return await slack.post(Message(caller, channel, text, idempotency_key))


TOOLS = (connector_slack_post,)
