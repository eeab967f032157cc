"""Mail and campaigns as the settings say, opened with the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import httpx

from fleet_common.http import RetryPolicy, open_client
from fleet_common.mcp import Runtime
from fleet_data.campaigns.postman import Postman, UnsubscribeLinks
from fleet_data.campaigns.repository import CampaignRepository
from fleet_data.campaigns.sending import SendingRepository
from fleet_data.campaigns.service import Campaigns, Contacts
from fleet_data.campaigns.tokens import UnsubscribeTokens
from fleet_data.jobs.depth import JobDepth
from fleet_data.jobs.repository import JobRepository
from fleet_data.jobs.worker import Worker
from fleet_data.mail.credentials import OneToken
from fleet_data.mail.mailers import Mailers
from fleet_data.mail.repository import MailRepository
from fleet_data.mail.service import Post
from fleet_data.mail.smtp import SmtpMailer, SmtpServer
from fleet_data.pool import Database
from fleet_data.settings import Settings

_GMAIL_S = 30.0


@dataclass(frozen=True, slots=True)
class Outreach:
    """What reaches people outside."""

    post: Post
    campaigns: Campaigns


@asynccontextmanager
async def open_outreach(
    settings: Settings, runtime: Runtime, database: Database, contacts: Contacts
) -> AsyncGenerator[Outreach]:
    """Open what sends mail; a process that works on tasks also sends campaigns."""
    async with AsyncExitStack() as stack:
        # No retries: whether a draft may be sent again is for its recipient's row to say.
        http = await stack.enter_async_context(
            open_client(
                name="gmail",
                base_url=settings.gmail_url,
                timeout_s=_GMAIL_S,
                retry=RetryPolicy(attempts=1),
                metrics=runtime.metrics,
            )
        )
        mailers = _mailers(settings, http)
        links = _links(settings)
        jobs = JobRepository(database)
        JobDepth(jobs).export(runtime.metrics)
        campaigns = Campaigns(CampaignRepository(database), contacts, mailers, links)
        if links is not None and settings.mail_from and settings.tasks_worker:
            postman = Postman(
                SendingRepository(database), mailers, links, per_day=settings.mail_per_day
            )
            worker = Worker(jobs, {"campaign": postman}, lease_s=settings.tasks_redelivery_s)
            campaigns = replace(campaigns, wake=worker.wake)
            await stack.enter_async_context(worker.working(grace_s=settings.shutdown_grace_s))
        yield Outreach(Post(MailRepository(database), mailers), campaigns)


def _mailers(settings: Settings, http: httpx.AsyncClient) -> Mailers:
    smtp = settings.smtp_url
    return Mailers(
        address=settings.mail_from,
        gmail=http,
        credentials=OneToken("google", settings.google_token, settings.google_tenant),
        smtp=SmtpMailer(SmtpServer.of_url(smtp.get_secret_value())) if smtp else None,
    )


def _links(settings: Settings) -> UnsubscribeLinks | None:
    if settings.unsubscribe_url is None:
        return None
    tokens = UnsubscribeTokens(settings.claims_key.get_secret_value())
    return UnsubscribeLinks(settings.unsubscribe_url, tokens)
