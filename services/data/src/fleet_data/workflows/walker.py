"""The walker: lets contacts into a workflow and takes each from step to step.

A step that changes the CRM does so in the transaction that also moves the contact on, so it is done once. A step
that reaches outside is done under a key of the run and the step, so doing it again after a crash does nothing new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid5

import httpx
import structlog
from pydantic import TypeAdapter

from fleet_common.errors import Conflict, FleetError, NotConfigured, Unavailable, UpstreamFailed
from fleet_data.campaigns.postman import UnsubscribeLinks
from fleet_data.campaigns.rendering import render
from fleet_data.campaigns.service import Contacts
from fleet_data.claims import Caller
from fleet_data.crm.filters import All, Filter, Where
from fleet_data.jobs.models import Job, Lease
from fleet_data.mail.service import MailCall, Post
from fleet_data.workflows.models import (
    AddScore,
    CallWebhook,
    Condition,
    MakeTask,
    MoveStage,
    Run,
    SendMail,
    Step,
    Wait,
    Workflow,
)
from fleet_data.workflows.repository import WorkflowRepository, WorkflowTransaction

log = structlog.get_logger()

_LOOK_S = 15.0  # how often a workflow looks for whom something happened to
_STEP_S = 120.0  # a step that reaches outside is another's after that
_AGAIN_S = 5.0  # others are due, too
_STEP: TypeAdapter[Step] = TypeAdapter(Step)
_CHUNK = 200  # values that one condition may list


@dataclass(frozen=True, slots=True)
class Walker:
    """Walks workflows; a `jobs.Handler`.

    Attributes:
        http: for webhooks.
        webhooks: addresses by the names that steps use.
    """

    store: WorkflowRepository
    contacts: Contacts
    post: Post
    links: UnsubscribeLinks | None
    http: httpx.AsyncClient
    webhooks: Mapping[str, str]

    async def __call__(self, job: Job, lease: Lease) -> float | None:
        """Take everybody as far as they come now; return the seconds until the next look, or None when it is off."""
        is_behind = True
        while is_behind:
            async with self.store.changing(Caller(job.tenant, "worker")) as changes:
                workflow = await changes.load(job.id)
                if workflow.state == "off":
                    return None
                is_behind = await changes.enrol(workflow) and not lease.is_over
        caller = Caller(job.tenant, workflow.started_by or "worker")
        while not lease.is_over and await self._step(caller, workflow):
            pass
        async with self.store.changing(caller, keep=False) as changes:
            due_s = await changes.next_due_s(workflow.id)
        return _LOOK_S if due_s is None else min(_LOOK_S, max(0.0, due_s))

    async def _step(self, caller: Caller, workflow: Workflow) -> bool:
        """Do the next step that is due; False when none is."""
        run: Run | None = None
        try:
            async with self.store.changing(caller) as changes:
                run = await changes.next_run(workflow.id)
                if run is None:
                    return False
                step = _STEP.validate_python(run.steps[run.step])
                if not isinstance(step, SendMail | CallWebhook | Condition):
                    await _change(changes, run, step)
                    return True
                await changes.postpone(run, _STEP_S)
            await self._outside(caller, run, step)
        except FleetError as exc:
            if run is None:
                raise
            await self._fail(caller, run, exc)
        return True

    async def _fail(self, caller: Caller, run: Run, error: FleetError) -> None:
        async with self.store.changing(caller) as changes:
            if error.retryable:
                await changes.postpone(run, max(error.retry_after_s or 60.0, _AGAIN_S))
            else:
                await changes.end(run, "failed", error.message)

    async def _outside(
        self, caller: Caller, run: Run, step: SendMail | CallWebhook | Condition
    ) -> None:
        try:
            goes_on = await self._do(caller, run, step)
        except Conflict as exc:  # such as an address that nobody may write to
            if exc.retryable:  # whoever has the mail in hand may have died with it: it is not done
                raise
            log.info("workflow_step_skipped", error=exc.code)
            goes_on = True
        async with self.store.changing(caller) as changes:
            if goes_on:
                await changes.advance(run)
            else:
                await changes.end(run, "left", "the condition does not hold")

    async def _do(self, caller: Caller, run: Run, step: SendMail | CallWebhook | Condition) -> bool:
        if isinstance(step, Condition):
            return bool(await meeting(self.contacts, caller, step.where, [str(run.contact_id)]))
        if isinstance(step, SendMail):
            await self._mail(caller, run, step)
        else:
            await self._tell(run, step)
        return True

    async def _mail(self, caller: Caller, run: Run, step: SendMail) -> None:
        if self.links is None:
            raise NotConfigured("FLEET_DATA_UNSUBSCRIBE_URL is not set")
        async with self.store.changing(caller, keep=False) as changes:
            letter = await changes.template(step.template)
            facts, block = await changes.facts(run.contact_id)
        if block is not None:
            return
        id_ = uuid5(run.id, str(run.step))
        link = self.links.of(caller.tenant, id_)
        told = render(letter, facts, link)
        call = MailCall(
            caller,
            run.contact_id,
            told.subject,
            told.body,
            draft=False,
            key=str(id_),
            html=told.html,
            unsubscribe_url=link,
            id=id_,
        )
        await self.post.send(call)

    async def _tell(self, run: Run, step: CallWebhook) -> None:
        url = self.webhooks.get(step.name)
        if url is None:
            raise NotConfigured(f"the operator has named no webhook {step.name!r}")
        facts = {"contact_id": str(run.contact_id), "record_id": str(run.record_id)}
        headers = {"Idempotency-Key": str(uuid5(run.id, str(run.step)))}
        reply = await self.http.post(url, json={"run": str(run.id), **facts}, headers=headers)
        if reply.status_code >= 500 or reply.status_code == 429:
            raise Unavailable("the webhook", retry_after_s=60.0)
        if not reply.is_success:
            raise UpstreamFailed(f"the webhook {step.name} answered {reply.status_code}")


async def meeting(
    contacts: Contacts, caller: Caller, where: Filter, ids: Sequence[str]
) -> list[str]:
    """Return those of `ids` that meet a condition now."""
    found: list[str] = []
    for start in range(0, len(ids), _CHUNK):
        among = Where(field="id", op="in", value=list(ids[start : start + _CHUNK]))
        both = All(all=[among, where])
        page = await contacts.search(caller, "contact", where=both, fields=["id"], limit=_CHUNK)
        found += [row[0] for row in page.rows]
    return found


async def _change(changes: WorkflowTransaction, run: Run, step: Any) -> None:
    """Do a step that stays inside, and move on, together."""
    match step:
        case MakeTask():
            await changes.make_task(run, step.title, step.due_days)
        case MoveStage():
            await changes.move_stage(run, step.to)
        case AddScore():
            await changes.add_score(run, step.add)
    await changes.advance(run, after_s=step.hours * 3600 if isinstance(step, Wait) else 0.0)
