"""Mail and campaigns as the settings say, opened with the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from pydantic import SecretStr

from fleet_common.http import open_client
from fleet_common.mcp import Runtime
from fleet_common.settings import SettingsError
from fleet_data.campaigns.postman import Postman, UnsubscribeLinks
from fleet_data.campaigns.replies import Replies
from fleet_data.campaigns.repository import CampaignRepository
from fleet_data.campaigns.sending import SendingRepository
from fleet_data.campaigns.service import Campaigns, Contacts
from fleet_data.campaigns.tokens import UnsubscribeTokens
from fleet_data.jobs.depth import JobDepth
from fleet_data.jobs.models import Handler
from fleet_data.jobs.repository import JobRepository
from fleet_data.jobs.worker import Worker
from fleet_data.mail.gmail import Accounts
from fleet_data.mail.mailers import Mailers
from fleet_data.mail.repository import MailRepository
from fleet_data.mail.service import Post
from fleet_data.mail.smtp import SmtpMailer, SmtpServer
from fleet_data.pool import Database
from fleet_data.settings import Settings
from fleet_data.workflows.repository import WorkflowRepository
from fleet_data.workflows.service import Workflows
from fleet_data.workflows.walker import Walker


@dataclass(frozen=True, slots=True)
class Outreach:
    """What reaches people outside."""

    post: Post
    campaigns: Campaigns
    workflows: Workflows


@asynccontextmanager
async def open_outreach(
    settings: Settings,
    runtime: Runtime,
    database: Database,
    contacts: Contacts,
    accounts: Accounts,
) -> AsyncGenerator[Outreach]:
    """Open what sends mail; a process that works on tasks also sends campaigns."""
    async with AsyncExitStack() as stack:
        mailers = _mailers(settings, accounts)
        links = _links(settings)
        jobs = JobRepository(database)
        JobDepth(jobs).export(runtime.metrics)
        post = Post(MailRepository(database), mailers, settings.mail_per_day)
        campaigns = Campaigns(CampaignRepository(database), contacts, mailers, links)
        workflows = Workflows(WorkflowRepository(database), contacts)
        if settings.mail_from and settings.tasks_worker:
            hooks = await stack.enter_async_context(open_client(name="webhook"))
            walker = Walker(
                workflows.store, contacts, post, links, hooks, _webhooks(settings.workflow_webhooks)
            )
            handlers: dict[str, Handler] = {
                "workflow": walker,
                "replies": Replies(database, mailers),
            }
            if links is not None:
                sending = SendingRepository(database)
                handlers["campaign"] = Postman(sending, mailers, links, settings.mail_per_day)
            worker = Worker(jobs, handlers, lease_s=settings.tasks_redelivery_s)
            campaigns = replace(campaigns, wake=worker.wake)
            workflows = replace(workflows, wake=worker.wake)
            await stack.enter_async_context(worker.working(grace_s=settings.shutdown_grace_s))
        yield Outreach(post, campaigns, workflows)


def _webhooks(told: Sequence[SecretStr]) -> dict[str, str]:
    """Return the addresses by name.

    Raises:
        SettingsError: one is not `name=https://…`; the text does not repeat it.
    """
    pairs = [each.get_secret_value().partition("=") for each in told]
    if not all(name and url.startswith(("https://", "http://127.0.0.1")) for name, _, url in pairs):
        raise SettingsError("FLEET_DATA_WORKFLOW_WEBHOOKS: want name=https://…")
    return {name: url for name, _, url in pairs}


def _mailers(settings: Settings, accounts: Accounts) -> Mailers:
    smtp = settings.smtp_url
    return Mailers(
        address=settings.mail_from,
        accounts=accounts,
        smtp=SmtpMailer(SmtpServer.of_url(smtp.get_secret_value())) if smtp else None,
    )


def _links(settings: Settings) -> UnsubscribeLinks | None:
    if settings.unsubscribe_url is None:
        return None
    keys = (settings.claims_key, *settings.claims_keys_before)
    tokens = UnsubscribeTokens(*(key.get_secret_value() for key in keys))
    return UnsubscribeLinks(settings.unsubscribe_url, tokens)
