"""A workflow from trigger to end, on a real database, the emulated Gmail and a webhook."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError

from fleet_common.http import open_client
from fleet_common.metrics import Metrics
from fleet_common.testing.upstream import status, upstream_server
from fleet_data.campaigns.postman import UnsubscribeLinks
from fleet_data.campaigns.tokens import UnsubscribeTokens
from fleet_data.claims import Caller
from fleet_data.connectors.opening import open_credentials
from fleet_data.crm.service import Crm
from fleet_data.jobs.models import Job, Lease
from fleet_data.mail.mailers import Mailers
from fleet_data.mail.repository import MailRepository
from fleet_data.mail.service import Post
from fleet_data.pool import Database
from fleet_data.settings import Settings
from fleet_data.workflows.repository import WorkflowRepository
from fleet_data.workflows.walker import Walker

Walking = Callable[..., AbstractAsyncContextManager[Walker]]
Ask = Callable[[str], Awaitable[Any]]

SEGMENT = "00000000-0000-7000-8000-00000000000a"
STEPS: list[dict[str, Any]] = [
    {"do": "if", "where": {"field": "first_name", "op": "ne", "value": "Person3"}},
    {"do": "task", "title": "Call", "due_days": 2},
    {"do": "stage", "to": "qualified"},
    {"do": "score", "add": 30},
    {"do": "webhook", "name": "erp"},
    {"do": "wait", "hours": 1},
    {"do": "mail", "template": "welcome", "from_name": "News"},
]


async def call(client: Client[Any], tool: str, **arguments: Any) -> Any:
    return (await client.call_tool(tool, arguments)).structured_content


async def save(client: Client[Any], steps: list[dict[str, Any]], **trigger: Any) -> str:
    definition = {"trigger": {"object": "contact", **trigger}, "steps": steps}
    made = await call(client, "campaign_workflow_save", name=str(trigger), definition=definition)
    return str(made["id"])


@pytest.fixture
def walking(settings: Settings, database: Database, crm: Crm, mailbox: Any) -> Walking:
    """Opens a walker whose webhook `erp` is at an address."""

    @asynccontextmanager
    async def open_walker(hook: str = "") -> AsyncGenerator[Walker]:
        async with AsyncExitStack() as stack:
            chosen = settings.model_copy(update={"connector_urls": [f"google={mailbox.url}"]})
            accounts = await stack.enter_async_context(
                open_credentials(chosen, database, Metrics("data"))
            )
            http = await stack.enter_async_context(open_client(name="webhook"))
            mailers = Mailers("news@example.com", accounts, None)
            links = UnsubscribeLinks("https://x/unsubscribe", UnsubscribeTokens("s" * 32))
            store = WorkflowRepository(database, settled_s=0.0)
            post = Post(MailRepository(database), mailers, 2000)
            yield Walker(store, crm, post, links, http, {"erp": hook})

    return open_walker


@pytest.fixture
def ask(database: Database, demo: Caller) -> Ask:
    """Runs one statement or more as the tenant, and returns the first value."""

    async def run(sql: str) -> Any:
        async with database.writing(demo) as connection:
            if sql.startswith("SELECT"):
                return await connection.fetchval(sql)
            return await connection.execute(sql)

    return run


async def test_contacts_go_from_step_to_step_once(
    talk: Any, people: Any, mailbox: Any, walking: Walking, ask: Ask
) -> None:
    async with talk(tasks_worker=False) as (client, asked), upstream_server() as hook:
        hook.answer("/hook", status(503), status(200))
        await people(1)
        letter = {"subject": "Hi {{ first_name }}", "body": "Hello\n{{ unsubscribe_url }}"}
        await call(
            client, "campaign_draft", name="T", segment_id=SEGMENT, from_name="N",
            template="welcome", **letter,
        )  # fmt: skip
        id_ = await save(client, STEPS, on="created")
        tried = await client.call_tool("campaign_workflow_test", {"workflow_id": id_})
        assert '[1,"if",3]' in tried.content[0].text
        await call(client, "campaign_workflow_control", workflow_id=id_, action="start")
        assert asked[0].startswith("Turn on the workflow “")
        assert "\ntrigger: contact created\nstep 1: if\n" in asked[0]
        with pytest.raises(ToolError, match="is on cannot be changed"):
            await call(
                client, "campaign_workflow_save", name="x", workflow_id=id_,
                definition={"trigger": {"object": "contact"}, "steps": STEPS},
            )  # fmt: skip
        await ask(MORE)  # these come after the start: two go on, one leaves
        job = Job("demo", "workflow", UUID(id_))
        async with walking(f"{hook.url}/hook") as walk:
            for _ in range(3):
                assert await walk(job, Lease()) is not None
                await ask(HURRY)
            stats = await call(client, "campaign_workflow_stats", workflow_id=id_)
            assert stats["counts"] == {"done": 2, "left": 1}
            assert len(await mailbox.sent()) == 2
            # The process died after the mail had left and before that was noted: the step is done again.
            await ask(
                "UPDATE store.workflow_runs SET step = 6, state = 'open' WHERE state = 'done'"
            )
            await ask(HURRY)
            await walk(job, Lease())
            # Another worker has the mails in hand and dies with them: nothing is done before somebody did it.
            for taken, counts in (("now()", {"at step 7": 2}), ("'-infinity'", {"done": 2})):
                await ask(f"UPDATE store.mails SET state = 'claimed', claimed_at = {taken}")
                await ask("UPDATE store.workflow_runs SET step = 6, state = 'open' WHERE step > 5")
                await ask(HURRY)
                await walk(job, Lease())
                stats = await call(client, "campaign_workflow_stats", workflow_id=id_)
                assert stats["counts"] == {**counts, "left": 1}
        sent = await mailbox.sent()
        assert sorted(mail["to"] for mail in sent) == ["n1@example.org", "n2@example.org"]
        assert "List-Unsubscribe-Post" in sent[0]["raw"]
        keys = [request.headers["Idempotency-Key"] for request in hook.requests]
        assert (len(keys), len(set(keys))) == (3, 2)
        tasks = await ask("SELECT count(*) FROM store.tasks")
        moved = await ask("SELECT count(*) FROM store.contacts WHERE lifecycle = 'qualified'")
        scores = await ask("SELECT array_agg(score) FROM store.leads")
        assert (tasks, moved, scores) == (2, 2, [80])
        stopped = await call(client, "campaign_workflow_control", workflow_id=id_, action="stop")
        assert stopped["state"] == "off"
        async with walking() as walk:
            assert await walk(job, Lease()) is None


async def test_a_step_that_cannot_be_done_takes_only_its_contact_out(
    talk: Any, people: Any, walking: Walking, ask: Ask
) -> None:
    async with talk(tasks_worker=False) as (client, _):
        await people(1)
        for wrong, message in (
            ([{"do": "mail", "template": "none", "from_name": "x"}], "template .* not found"),
            ([{"do": "if", "where": {"field": "nope", "value": 1}}], "no field"),
            ([{"do": "explode"}], "explode"),
            ([], "at least 1"),
        ):
            with pytest.raises(ToolError, match=message):
                await save(client, wrong, on="created")
        changed = {"on": "changed", "field": "lifecycle", "to": "customer"}
        id_ = await save(client, [{"do": "stage", "to": "nonsense"}, STEPS[1]], **changed)
        await call(client, "campaign_workflow_control", workflow_id=id_, action="start")
        await ask("UPDATE store.contacts SET lifecycle = 'customer'")
        async with walking() as walk:
            await walk(Job("demo", "workflow", UUID(id_)), Lease())
        stats = await call(client, "campaign_workflow_stats", workflow_id=id_)
        assert stats["counts"] == {"failed": 3}


MORE = """
INSERT INTO store.contacts (tenant, id, first_name, last_name, email, lifecycle, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'Person' || n, 'X', 'n' || n || '@example.org', 'lead', 't', 't'
FROM generate_series(1, 3) n;
INSERT INTO store.consents (tenant, id, address, channel, purpose, state, decided_at, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), email, 'email', 'marketing', 'granted', now(), 't', 't' FROM store.contacts
WHERE email LIKE 'n%@example.org' AND email <> 'no-consent@example.org';
INSERT INTO store.leads (tenant, id, name, email, source, status, score, created_by, updated_by)
VALUES ('demo', gen_random_uuid(), 'N', 'n1@example.org', 'web', 'new', 50, 't', 't');
"""
HURRY = "UPDATE store.workflow_runs SET due_at = now()"
