"""The SQL of workflows: definitions, who enters one, and where each contact is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from fleet_common.errors import NotFound
from fleet_common.postgres import PostgresRecords
from fleet_data.campaigns.models import Letter
from fleet_data.campaigns.rendering import VARIABLES
from fleet_data.campaigns.repository import FACTS
from fleet_data.claims import Caller
from fleet_data.ids import uuid7
from fleet_data.jobs.models import Job
from fleet_data.jobs.repository import make_due
from fleet_data.pool import Connection, Database
from fleet_data.workflows.models import Definition, Run, Trigger, Workflow, WorkflowState

_SETTLED_S = 15.0
"""Age at which a change is seen: its id is taken before its transaction commits, and those take seconds."""
_LOOK = 5000  # changes, by their numbers
_CONTACT = {"contact": "c.id", "deal": "c.contact_id"}
# The log says what was before a change; how the record was after it follows from the present and from later changes.
_THEN = "(to_jsonb(c) || store.changed_after(l.tenant, l.record_id, l.id))"
_CHANGES = f"""
SELECT l.id, l.record_id, {{contact}} AS contact_id
FROM store.change_log l JOIN store.{{object}}s c ON c.tenant = l.tenant AND c.id = l.record_id AND c.deleted_at IS NULL
WHERE {{span}} AND l.object = $1 AND (l.before IS NULL) = ($2 = 'created')
    AND ($3::text IS NULL OR l.before IS NULL OR l.before ? $3 AND l.before -> $3 <> {_THEN} -> $3)
    AND ($3 IS NULL OR $4::text IS NULL OR {_THEN} ->> $3 = $4)
"""  # noqa: S608 - names of ours
_ENROL = """
INSERT INTO store.workflow_runs (tenant, id, workflow_id, contact_id, record_id, steps)
SELECT DISTINCT ON (ch.contact_id) $8, gen_random_uuid(), $5, ch.contact_id, ch.record_id, $9
FROM ({changes}) ch JOIN store.contacts c ON c.id = ch.contact_id AND c.deleted_at IS NULL
ORDER BY ch.contact_id, ch.id
ON CONFLICT (tenant, workflow_id, contact_id) DO NOTHING
"""
_PAST = "SELECT DISTINCT contact_id FROM ({changes}) ch WHERE contact_id IS NOT NULL LIMIT 1000"


class WorkflowRepository:
    """Workflows in PostgreSQL."""

    def __init__(self, database: Database, *, settled_s: float = _SETTLED_S) -> None:
        self._database = database
        self._settled_s = settled_s

    @asynccontextmanager
    async def changing(
        self, caller: Caller, *, keep: bool = True
    ) -> AsyncGenerator[WorkflowTransaction]:
        """Yield a transaction; what it did stays only when `keep` is true and nothing was raised."""
        settings = {"app.change_set": str(uuid7())}
        async with self._database.writing(caller, settings=settings, keep=keep) as connection:
            yield WorkflowTransaction(connection, caller, settled_s=self._settled_s)


class WorkflowTransaction:
    """What happens to workflows of one caller, together or not at all."""

    def __init__(self, connection: Connection, caller: Caller, *, settled_s: float) -> None:
        self._settled_s = settled_s
        self.records = PostgresRecords(connection, table="store.idempotency")
        self._connection = connection
        self._caller = caller

    async def load(self, id_: UUID) -> Workflow:
        """Return a workflow and lock it.

        Raises:
            NotFound: there is none.
        """
        row = await self._connection.fetchrow(
            "SELECT version, name, definition, state, started_by FROM store.workflows "
            "WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
            id_,
        )
        if row is None:
            raise NotFound("workflow", id_)
        facts = dict(row)
        definition = Definition.model_validate(facts.pop("definition"))
        return Workflow(id=id_, definition=definition, **facts)

    async def save(self, id_: UUID | None, name: str, definition: Definition) -> UUID:
        """Make a workflow, or replace what one says; contacts on their way keep the steps they began with."""
        told = definition.model_dump(mode="json", by_alias=True)
        if id_ is not None:
            await self.load(id_)
            await self._connection.execute(
                "UPDATE store.workflows SET name = $2, definition = $3, updated_by = $4 WHERE id = $1",
                id_,
                name,
                told,
                self._caller.subject,
            )
            return id_
        made = uuid7()
        await self._connection.execute(
            "INSERT INTO store.workflows (tenant, id, name, definition, created_by, updated_by) "
            "VALUES ($1, $2, $3, $4, $5, $5)",
            self._caller.tenant,
            made,
            name,
            told,
            self._caller.subject,
        )
        return made

    async def turn(self, workflow: Workflow, state: str) -> None:
        """Turn a workflow on, from what happens next, or off; contacts on their way wait until it is on again."""
        await self._connection.execute(
            "UPDATE store.workflows SET state = $2, started_by = $3, updated_by = $3 WHERE id = $1",
            workflow.id,
            state,
            self._caller.subject,
        )
        if state == "on":
            await self._connection.execute(
                "INSERT INTO store.workflow_cursors (tenant, workflow_id, change_id) "
                "SELECT $1, $2, coalesce(max(id), 0) FROM store.change_log "
                "ON CONFLICT (tenant, workflow_id) DO UPDATE SET change_id = excluded.change_id",
                self._caller.tenant,
                workflow.id,
            )
            await make_due(self._connection, Job(self._caller.tenant, "workflow", workflow.id))

    async def enrol(self, workflow: Workflow) -> bool:
        """Let those in to whom the trigger happened since the last look; return whether there is more to look at."""
        newest = await self._connection.fetchval(
            "SELECT max(id) FROM store.change_log WHERE changed_at < now() - $1 * interval '1 second'",
            self._settled_s,
        )
        since = await self._connection.fetchval(
            "SELECT change_id FROM store.workflow_cursors WHERE workflow_id = $1 FOR UPDATE",
            workflow.id,
        )
        if newest is None or since is None or newest <= since:
            return False
        until = min(newest, since + _LOOK)
        steps = [s.model_dump(mode="json", by_alias=True) for s in workflow.definition.steps]
        trigger = workflow.definition.trigger
        changes = _changes(trigger, "l.id > $6 AND l.id <= $7")
        await self._connection.execute(
            _ENROL.format(changes=changes), *_asked(trigger), workflow.id, since, until,
            self._caller.tenant, steps,
        )  # fmt: skip
        await self._connection.execute(
            "UPDATE store.workflow_cursors SET change_id = $2 WHERE workflow_id = $1",
            workflow.id,
            until,
        )
        return bool(until < newest)

    async def past(self, trigger: Trigger, days: int) -> list[str]:
        """Return contacts to whom the trigger happened in the last days, at most 1000."""
        changes = _changes(trigger, "l.changed_at > now() - $5 * interval '1 day'")
        rows = await self._connection.fetch(_PAST.format(changes=changes), *_asked(trigger), days)
        return [row["contact_id"] for row in rows]

    async def next_run(self, workflow: UUID) -> Run | None:
        """Return and lock the next contact that is due."""
        row = await self._connection.fetchrow(
            "SELECT r.id, r.contact_id, r.record_id, r.step, r.steps, c.email FROM store.workflow_runs r "
            "JOIN store.contacts c ON c.id = r.contact_id "
            "WHERE r.workflow_id = $1 AND r.state = 'open' AND r.due_at <= now() "
            "ORDER BY r.due_at, r.id LIMIT 1 FOR UPDATE OF r SKIP LOCKED",
            workflow,
        )
        if row is None:
            return None
        ids = {name: UUID(row[name]) for name in ("id", "contact_id", "record_id")}
        return Run(**ids, step=row["step"], steps=row["steps"], email=row["email"])

    async def advance(self, run: Run, *, after_s: float = 0.0) -> None:
        """Put a contact to its next step, or to the end."""
        await self._connection.execute(
            "UPDATE store.workflow_runs SET step = $2, due_at = now() + $3 * interval '1 second', "
            "state = CASE WHEN $2 >= jsonb_array_length(steps) THEN 'done' ELSE 'open' END "
            "WHERE id = $1 AND step = $4 AND state = 'open'",
            run.id,
            run.step + 1,
            after_s,
            run.step,
        )

    async def end(self, run: Run, state: str, reason: str | None) -> None:
        """Take a contact out of the workflow."""
        await self._connection.execute(
            "UPDATE store.workflow_runs SET state = $2, reason = $3 WHERE id = $1",
            run.id,
            state,
            reason,
        )

    async def postpone(self, run: Run, seconds: float) -> None:
        """Try the same step again later."""
        await self._connection.execute(
            "UPDATE store.workflow_runs SET due_at = now() + $2 * interval '1 second' WHERE id = $1",
            run.id,
            seconds,
        )

    async def make_task(self, run: Run, title: str, due_days: int) -> None:
        """Add a task about the contact."""
        await self._connection.execute(
            "INSERT INTO store.tasks (tenant, id, title, due_at, status, priority, contact_id, created_by, updated_by) "
            "VALUES ($1, $2, $3, now() + $4 * interval '1 day', 'open', 'normal', $5, $6, $6)",
            self._caller.tenant,
            uuid7(),
            title,
            due_days,
            run.contact_id,
            self._caller.subject,
        )

    async def move_stage(self, run: Run, to: str) -> None:
        """Set the stage of the deal, or the lifecycle of the contact."""
        table, column = (
            ("contacts", "lifecycle") if run.record_id == run.contact_id else ("deals", "stage")
        )
        await self._connection.execute(
            f"UPDATE store.{table} SET {column} = $2, updated_by = $3 "  # noqa: S608 - names of ours
            f"WHERE id = $1 AND deleted_at IS NULL AND {column} <> $2",
            run.record_id,
            to,
            self._caller.subject,
        )

    async def add_score(self, run: Run, add: int) -> None:
        """Add to the score of the contact's leads."""
        await self._connection.execute(
            "UPDATE store.leads SET score = least(100, greatest(0, coalesce(score, 0) + $3)), updated_by = $4 "
            "WHERE (contact_id = $1 OR email = $2) AND deleted_at IS NULL",
            run.contact_id,
            run.email,
            add,
            self._caller.subject,
        )

    async def template(self, name: str) -> Letter:
        """Return the letter of a template.

        Raises:
            NotFound: there is none.
        """
        row = await self._connection.fetchrow(
            "SELECT subject, body, html FROM store.templates WHERE name = $1 AND deleted_at IS NULL",
            name,
        )
        if row is None:
            raise NotFound("template", name)
        return Letter(row["subject"], row["body"], row["html"])

    async def facts(self, contact: UUID) -> tuple[dict[str, str | None], str | None]:
        """Return what a letter may say of a contact, and why it may not be written to."""
        row = await self._connection.fetchrow(
            f"SELECT {FACTS}, store.mail_block(c.email) AS block FROM store.contacts c "  # noqa: S608 - names of ours
            "LEFT JOIN store.companies o ON o.id = c.company_id AND o.deleted_at IS NULL WHERE c.id = $1",
            contact,
        )
        if row is None:
            raise NotFound("contact", contact)
        return {name: row[name] for name in VARIABLES}, row["block"]

    async def next_due_s(self, workflow: UUID) -> float | None:
        """Return the seconds until the next contact is due; None when none is on its way."""
        due: float | None = await self._connection.fetchval(
            "SELECT extract(epoch FROM min(due_at) - now())::float8 FROM store.workflow_runs "
            "WHERE workflow_id = $1 AND state = 'open'",
            workflow,
        )
        return due

    async def state(self, id_: UUID) -> WorkflowState:
        """Return a workflow, and how many contacts are where: `open at step 2`, `done`, `left: …`."""
        workflow = await self.load(id_)
        rows = await self._connection.fetch(
            "SELECT CASE state WHEN 'open' THEN 'at step ' || (step + 1) ELSE state END AS place, count(*) AS n "
            "FROM store.workflow_runs WHERE workflow_id = $1 GROUP BY 1 ORDER BY 1",
            id_,
        )
        counts = {row["place"]: row["n"] for row in rows}
        return WorkflowState(str(id_), workflow.name, workflow.version, workflow.state, counts)


def _changes(trigger: Trigger, span: str) -> str:
    """Return the statement for the changes in a span of the log that the trigger means."""
    return _CHANGES.format(contact=_CONTACT[trigger.object], object=trigger.object, span=span)


def _asked(trigger: Trigger) -> Sequence[Any]:
    return trigger.object, trigger.on, trigger.field, trigger.to
