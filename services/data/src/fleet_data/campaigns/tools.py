"""Campaigns as a model sees them: draft, preview, send, control and count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Annotated, Any
from uuid import UUID

from fastmcp import Context
from fastmcp.dependencies import CurrentContext, Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import AwareDatetime, BaseModel, Field

from fleet_common.approvals import Plan, needs_approval
from fleet_common.mcp import TABLE_SCHEMA, CurrentPlan, fence, table, touches
from fleet_common.mcp.declared import SCOPE_META
from fleet_common.mcp.params import IdempotencyKey
from fleet_common.policy import Grant
from fleet_common.tasks import running_task
from fleet_data.campaigns.following import follow
from fleet_data.campaigns.models import Action, Draft, Letter, Stats
from fleet_data.campaigns.service import Campaigns, Drafted, Preview, SendCall
from fleet_data.claims import Caller
from fleet_data.deps import Deps, get_caller, get_campaigns

_READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_SENDS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)
_SCOPE: Mapping[str, Any] = {SCOPE_META: "data:send"}

CampaignId = Annotated[UUID, Field(description="Id of the campaign.")]
Text = Annotated[
    str,
    Field(
        max_length=100_000,
        description="Text with {{ first_name | default('there', true) }} … {{ unsubscribe_url }}.",
    ),
]


@tool(
    title="Draft a campaign",
    meta={**_SCOPE, **touches("private")},
    annotations=_WRITES,
    tags={"campaign"},
)
async def campaign_draft(  # noqa: PLR0917 - parameters of a tool are named
    name: Annotated[str, Field(min_length=1, max_length=120, description="Unique name.")],
    segment_id: Annotated[UUID, Field(description="Segment of contacts.")],
    from_name: Annotated[str, Field(min_length=1, max_length=100, description="Shown sender.")],
    subject: Annotated[str, Field(max_length=200, description="May use variables.")] = "",
    body: Text = "",
    html: Annotated[str | None, Field(max_length=100_000, description="The same as HTML.")] = None,
    template: Annotated[
        str | None,
        Field(
            max_length=120,
            description="Name to keep the letter under, or, without a body, to take it from.",
        ),
    ] = None,
    send_at: Annotated[AwareDatetime | None, Field(description="Not before.")] = None,
    campaign_id: Annotated[UUID | None, Field(description="Draft to change.")] = None,
    idempotency_key: IdempotencyKey = None,
    caller: Caller = Depends(get_caller),
    campaigns: Campaigns = Depends(get_campaigns),
) -> Drafted:
    """Write a campaign, or change a draft: one letter to every contact of a segment. Sends nothing.

    Variables: first_name, last_name, title, city, country, email, company, industry, unsubscribe_url; `if` is allowed.
    Look at campaign_preview next.
    """
    draft = Draft(
        name,
        segment_id,
        from_name,
        Letter(subject, body, html),
        send_at.isoformat() if send_at else None,
    )
    return await campaigns.draft(
        caller, draft, template=template, replaces=campaign_id, key=idempotency_key
    )


@tool(
    title="Preview a campaign",
    meta={**_SCOPE, **touches("untrusted", "private")},
    annotations=_READS,
    output_schema=TABLE_SCHEMA,
    tags={"campaign"},
)
async def campaign_preview(
    campaign_id: CampaignId,
    sample: Annotated[int, Field(ge=1, le=10, description="Letters to show.")] = 3,
    caller: Caller = Depends(get_caller),
    campaigns: Campaigns = Depends(get_campaigns),
) -> ToolResult:
    """Show a campaign as some of its recipients would get it, and who would be left out and why.

    `checks` counts those reached, those blocked and why, and those without a value for a variable. Changes nothing.
    """
    preview = await campaigns.preview(caller, campaign_id, sample=sample)
    rows = [[text and fence(text) for text in astuple(letter)] for letter in preview.letters]
    return table(["subject", "body", "html"], rows, extra={"checks": _checks(preview)})


class SendArguments(BaseModel):
    """What a plan needs to know of a call of campaign_send."""

    campaign_id: UUID
    max_per_minute: int = 60
    idempotency_key: str | None = None


async def plan_campaign_send(arguments: SendArguments, grant: Grant, deps: Deps) -> Plan | None:
    """Return what would be sent and to how many, for whoever is asked to approve it."""
    caller = get_caller(grant)
    call = SendCall(
        caller, arguments.campaign_id, arguments.max_per_minute, arguments.idempotency_key
    )
    return await deps.campaigns.plan(call)


@needs_approval(plan=plan_campaign_send)
@tool(
    title="Send a campaign",
    meta={**_SCOPE, **touches("public")},
    annotations=_SENDS,
    tags={"campaign"},
    task=True,
)
async def campaign_send(  # noqa: PLR0917 - parameters of a tool are named
    campaign_id: CampaignId,
    max_per_minute: Annotated[int, Field(ge=1, le=6000, description="Gmail takes 150.")] = 60,
    idempotency_key: IdempotencyKey = None,
    plan: Plan | None = CurrentPlan(),
    ctx: Context = CurrentContext(),
    caller: Caller = Depends(get_caller),
    campaigns: Campaigns = Depends(get_campaigns),
) -> Stats:
    """Send a campaign to everybody it reaches, each once; a person is asked first and sees how many that are.

    It goes on in the background: campaign_stats follows it, campaign_control pauses it.
    """
    task = running_task()  # a task that is run again must find its own campaign on its way
    call = SendCall(
        caller, campaign_id, max_per_minute, idempotency_key or (task.id if task else None)
    )
    await campaigns.send(call, approved=plan.object_version if plan else None)
    return await follow(campaigns, caller, campaign_id, ctx.report_progress)


@tool(
    title="Pause, resume or cancel a campaign",
    # Not "public": it carries no word of its own out, and what it resumes a person has approved as it is.
    meta={**_SCOPE, **touches()},
    annotations=_WRITES,
    tags={"campaign"},
)
async def campaign_control(
    campaign_id: CampaignId,
    action: Annotated[Action, Field(description="What to do; cancelling is for good.")],
    idempotency_key: IdempotencyKey = None,
    caller: Caller = Depends(get_caller),
    campaigns: Campaigns = Depends(get_campaigns),
) -> Stats:
    """Pause, resume or cancel a campaign that is being sent. Mails that have left stay sent. Returns its state."""
    return await campaigns.control(caller, campaign_id, action, key=idempotency_key)


@tool(
    title="How far a campaign is",
    meta={**_SCOPE, **touches("private")},
    annotations=_READS,
    output_schema=TABLE_SCHEMA,
    tags={"campaign"},
)
async def campaign_stats(
    campaign_id: CampaignId,
    caller: Caller = Depends(get_caller),
    campaigns: Campaigns = Depends(get_campaigns),
) -> ToolResult:
    """Return how many mails of a campaign are queued, sent, replied, bounced, skipped, unsubscribed or unknown.

    The rows are contacts (at most 20) of whom nobody knows whether they got it. Changes nothing.
    """
    stats, unknown = await campaigns.stats(caller, campaign_id)
    facts = {
        "campaign": stats.name,
        "state": stats.state,
        "recipients": stats.recipients,
        "counts": dict(stats.counts),
        "sent_per_minute": stats.sent_per_minute,
        "reason": stats.note,
    }
    return table(["unknown_contact_id"], [[each] for each in unknown], extra=facts)


TOOLS = (campaign_draft, campaign_preview, campaign_send, campaign_control, campaign_stats)


def _checks(preview: Preview) -> dict[str, Any]:
    audience = preview.audience
    return {
        "state": preview.campaign.state,
        "segment": audience.size,
        "reached": audience.reached,
        "blocked": dict(audience.blocked),
        "without_value": dict(audience.lacking),
        "unsubscribe_header": "one-click",
    }
