"""What can be done with workflows: write, try on history, turn on and off, and count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from fleet_common.approvals import Plan
from fleet_common.errors import Conflict
from fleet_common.idempotency import KeyedCall, once
from fleet_data.campaigns.service import Contacts
from fleet_data.claims import Caller
from fleet_data.workflows.models import Condition, Definition, SendMail, WorkflowState
from fleet_data.workflows.repository import WorkflowRepository, WorkflowTransaction
from fleet_data.workflows.walker import meeting

_SAVE = "campaign_workflow_save"


@dataclass(frozen=True, slots=True)
class SavedWorkflow:
    """A workflow as it was saved."""

    id: str
    version: int


@dataclass(frozen=True, slots=True)
class Workflows:
    """The workflows of every tenant; each call says on whose behalf."""

    store: WorkflowRepository
    contacts: Contacts
    wake: Callable[[], None] = field(default=lambda: None)

    async def save(
        self,
        caller: Caller,
        name: str,
        definition: Definition,
        *,
        replaces: UUID | None = None,
        key: str | None = None,
    ) -> SavedWorkflow:
        """Save a workflow, or what one says from now on.

        Raises:
            NotFound: a template, or the workflow to replace, does not exist.
            Conflict: the workflow to replace is on.
        """

        async def change() -> Any:
            await self._check(changes, caller, definition)
            if replaces is not None and (await changes.load(replaces)).state == "on":
                raise Conflict("a workflow that is on cannot be changed", hint="Turn it off first")
            id_ = await changes.save(replaces, name, definition)
            return {"id": str(id_), "version": (await changes.load(id_)).version}

        told = [name, definition.model_dump(mode="json"), replaces]
        async with self.store.changing(caller) as changes:
            if key is None:
                return SavedWorkflow(**await change())
            keyed = KeyedCall.of(caller.tenant, caller.subject, _SAVE, key, told)
            return SavedWorkflow(**await once(changes.records, keyed, change))

    async def try_on_history(
        self, caller: Caller, id_: UUID, days: int
    ) -> Sequence[tuple[int, str, int]]:
        """Return (step, what it does, how many would have reached it) for the last days; changes nothing.

        Waits count as passed, and conditions are judged by what the contacts are now.
        """
        async with self.store.changing(caller, keep=False) as changes:
            workflow = await changes.load(id_)
            reached = await changes.past(workflow.definition.trigger, days)
        rows = [(0, "trigger", len(reached))]
        for number, step in enumerate(workflow.definition.steps, 1):
            rows.append((number, step.do, len(reached)))
            if isinstance(step, Condition):
                reached = await meeting(self.contacts, caller, step.where, reached)
        return rows

    async def plan(self, caller: Caller, id_: UUID, action: str) -> Plan | None:
        """Return what turning a workflow on would do; None for turning it off."""
        async with self.store.changing(caller, keep=False) as changes:
            workflow = await changes.load(id_)
        if action == "stop" or workflow.state == "on":
            return None
        told = workflow.definition
        return Plan(
            summary=f"Turn on the workflow “{workflow.name}”",
            details={
                "trigger": " ".join(filter(None, told.trigger.model_dump().values())),
                **{f"step {n}": step.do for n, step in enumerate(told.steps, 1)},
            },
            object_version=str(workflow.version),
        )

    async def control(
        self, caller: Caller, id_: UUID, action: str, *, approved: str | None = None
    ) -> WorkflowState:
        """Turn a workflow on or off; doing it twice is doing it once.

        Raises:
            Conflict: it is not the version that a person approved.
        """
        state = "on" if action == "start" else "off"
        async with self.store.changing(caller) as changes:
            workflow = await changes.load(id_)
            if workflow.state != state:
                if approved is not None and approved != str(workflow.version):
                    raise Conflict("the workflow is not the one that was approved")
                await changes.turn(workflow, state)
            told = await changes.state(id_)
        self.wake()
        return told

    async def state(self, caller: Caller, id_: UUID) -> WorkflowState:
        """Return how many contacts are where."""
        async with self.store.changing(caller, keep=False) as changes:
            return await changes.state(id_)

    async def _check(
        self, changes: WorkflowTransaction, caller: Caller, definition: Definition
    ) -> None:
        """Return when every template is there and every condition can be asked."""
        for step in definition.steps:
            if isinstance(step, SendMail):
                await changes.template(step.template)
            elif isinstance(step, Condition):
                await meeting(self.contacts, caller, step.where, [str(UUID(int=0))])
