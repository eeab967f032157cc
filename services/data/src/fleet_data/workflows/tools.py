"""Workflows as a model sees them: write, try, turn on and off, and count."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field, WithJsonSchema

from fleet_common.approvals import Plan, needs_approval
from fleet_common.mcp import TABLE_SCHEMA, CurrentPlan, table, touches
from fleet_common.mcp.declared import SCOPE_META
from fleet_common.mcp.params import IdempotencyKey
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.deps import Deps, get_caller, get_workflows
from fleet_data.workflows.models import Definition, WorkflowState
from fleet_data.workflows.service import SavedWorkflow, Workflows

_READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_SCOPE: dict[str, Any] = {SCOPE_META: "data:send"}
# The grammar in words: as nested definitions it costs many times the tokens. The models check it all the same.
_DEFINITION_SCHEMA = {
    "type": "object",
    "description": '{"trigger":{"object":"contact|deal","on":"created|changed","field":…,"to":…},"steps":[…]}; steps: '
    '{"do":"wait","hours":72}, {"do":"if","where":filter of crm_search}, {"do":"mail","template":…,"from_name":…}, '
    '{"do":"task","title":…,"due_days":2}, {"do":"stage","to":…}, {"do":"score","add":10}, {"do":"webhook","name":…}.',
}
WorkflowId = Annotated[UUID, Field(description="Id of the workflow.")]
Control = Literal["start", "stop"]


@tool(
    title="Write a workflow",
    meta={**_SCOPE, **touches("private")},
    annotations=_WRITES,
    tags={"campaign"},
)
async def campaign_workflow_save(  # noqa: PLR0917 - parameters of a tool are named
    name: Annotated[str, Field(min_length=1, max_length=120, description="Unique name.")],
    definition: Annotated[Definition, WithJsonSchema(_DEFINITION_SCHEMA)],
    workflow_id: Annotated[UUID | None, Field(description="Workflow to change.")] = None,
    idempotency_key: IdempotencyKey = None,
    caller: Caller = Depends(get_caller),
    workflows: Workflows = Depends(get_workflows),
) -> SavedWorkflow:
    """Write a workflow, off: what to do, step by step, with contacts to whom something happens.

    Mails take a template that campaign_draft kept. Try it with campaign_workflow_test.
    """
    return await workflows.save(caller, name, definition, replaces=workflow_id, key=idempotency_key)


@tool(
    title="Try a workflow on history",
    meta={**_SCOPE, **touches("private")},
    annotations=_READS,
    output_schema=TABLE_SCHEMA,
    tags={"campaign"},
)
async def campaign_workflow_test(
    workflow_id: WorkflowId,
    days: Annotated[int, Field(ge=1, le=365, description="How far back to look.")] = 30,
    caller: Caller = Depends(get_caller),
    workflows: Workflows = Depends(get_workflows),
) -> ToolResult:
    """Show how many contacts would have come to each step in the last days. Does nothing to anybody."""
    rows = await workflows.try_on_history(caller, workflow_id, days)
    return table(["step", "does", "contacts"], rows)


class ControlArguments(BaseModel):
    """What a plan needs to know of a call of campaign_workflow_control."""

    workflow_id: UUID
    action: Control


async def plan_workflow_control(
    arguments: ControlArguments, grant: Grant, deps: Deps
) -> Plan | None:
    """Return what would be turned on, for whoever is asked to approve it."""
    return await deps.workflows.plan(get_caller(grant), arguments.workflow_id, arguments.action)


@needs_approval(plan=plan_workflow_control)
@tool(
    title="Turn a workflow on or off",
    meta={**_SCOPE, **touches("public")},
    annotations=_WRITES,
    tags={"campaign"},
)
async def campaign_workflow_control(
    workflow_id: WorkflowId,
    action: Annotated[Control, Field(description="Starting asks a person first.")],
    plan: Plan | None = CurrentPlan(),
    caller: Caller = Depends(get_caller),
    workflows: Workflows = Depends(get_workflows),
) -> WorkflowState:
    """Start a workflow for what happens from now on, or stop it: contacts on their way wait until it starts again."""
    approved = plan.object_version if plan else None
    return await workflows.control(caller, workflow_id, action, approved=approved)


@tool(
    title="Where contacts are in a workflow",
    meta={**_SCOPE, **touches("private")},
    annotations=_READS,
    tags={"campaign"},
)
async def campaign_workflow_stats(
    workflow_id: WorkflowId,
    caller: Caller = Depends(get_caller),
    workflows: Workflows = Depends(get_workflows),
) -> WorkflowState:
    """Return how many contacts wait at which step, are done, left at a condition or failed. Changes nothing."""
    return await workflows.state(caller, workflow_id)


TOOLS = (
    campaign_workflow_save,
    campaign_workflow_test,
    campaign_workflow_control,
    campaign_workflow_stats,
)
