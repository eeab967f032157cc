"""Mail as a model sees it: write to one contact, and search the mailbox."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from fleet_common.approvals import Plan, needs_approval
from fleet_common.mcp import TABLE_SCHEMA, CurrentGrant, CurrentPlan, fence, table, touches
from fleet_common.mcp.declared import SCOPE_META
from fleet_common.mcp.params import IdempotencyKey, Limit
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.deps import Deps, get_caller, get_post
from fleet_data.mail.service import MailCall, Mailed, Post

_READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)
_SENDS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True
)


class MailArguments(BaseModel):
    """What a plan needs to know of a call of mail_send."""

    contact_id: UUID
    subject: str
    text: str
    draft: bool = True
    idempotency_key: str | None = None


async def plan_mail_send(arguments: MailArguments, grant: Grant, deps: Deps) -> Plan | None:
    """Return whom the mail would go to, for whoever is asked to approve it."""
    call = MailCall(
        get_caller(grant),
        arguments.contact_id,
        arguments.subject,
        arguments.text,
        arguments.draft,
        arguments.idempotency_key,
    )
    return await deps.post.plan(call)


@needs_approval(plan=plan_mail_send)
@tool(
    title="Write to a contact",
    meta={SCOPE_META: "data:send", **touches("public")},
    annotations=_SENDS,
    tags={"mail"},
)
async def mail_send(  # noqa: PLR0917 - parameters of a tool are named
    contact_id: Annotated[UUID, Field(description="Contact to write to.")],
    subject: Annotated[str, Field(min_length=1, max_length=200, description="One line.")],
    text: Annotated[str, Field(min_length=1, max_length=50_000, description="Plain text.")],
    draft: Annotated[
        bool, Field(description="True: a draft in Gmail; false: send, a person is asked.")
    ] = True,
    idempotency_key: IdempotencyKey = None,
    plan: Plan | None = CurrentPlan(),
    caller: Caller = Depends(get_caller),
    post: Post = Depends(get_post),
) -> Mailed:
    """Write one mail to one contact: a draft in the connected mailbox unless `draft` is false.

    With an `idempotency_key` a repeat never sends twice. `unknown`: nobody can tell whether it left, do not repeat it.
    """
    call = MailCall(caller, contact_id, subject, text, draft, idempotency_key)
    planned = int(plan.object_version) if plan and plan.object_version else None
    return await post.send(call, planned_version=planned)


@tool(
    title="Search the mailbox",
    meta={SCOPE_META: "data:send", **touches("untrusted", "private")},
    annotations=_READS,
    output_schema=TABLE_SCHEMA,
    tags={"mail"},
)
async def mail_search(
    query: Annotated[
        str,
        Field(min_length=1, max_length=300, description="As in Gmail: `from:ada newer_than:7d`."),
    ],
    limit: Limit = 10,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    post: Post = Depends(get_post),
) -> ToolResult:
    """Find mails in the connected Gmail account, newest first: sender, subject and the first words. Changes nothing."""
    found = await post.search(caller, query, limit=min(50, grant.rows(limit)))
    columns = ["id", "thread_id", "date", "from", "to", "subject", "snippet"]
    rows = [
        [m.id, m.thread_id, m.date, *map(fence, (m.sender, m.to, m.subject, m.snippet))]
        for m in found
    ]
    return table(columns, rows)


TOOLS = (mail_send, mail_search)
