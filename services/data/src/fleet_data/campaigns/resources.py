"""The report of a campaign that a model can read by address."""

from __future__ import annotations

from dataclasses import asdict

from fastmcp.dependencies import Depends
from fastmcp.resources import resource
from pydantic_core import to_json

from fleet_data.campaigns.service import Campaigns
from fleet_data.claims import Caller
from fleet_data.deps import get_caller, get_campaigns


@resource(
    "crm://campaign/{id}/report",
    name="crm_campaign_report",
    title="Report of a campaign",
    mime_type="application/json",
    tags={"campaign"},
)
async def crm_campaign_report(
    id: str,  # noqa: A002 - the name in the URI template
    caller: Caller = Depends(get_caller),
    campaigns: Campaigns = Depends(get_campaigns),
) -> str:
    """Return how far a campaign is, by id or name: its state, how many mails are sent, skipped, bounced and so on."""
    found = await campaigns.named(caller, id)
    stats, unknown = await campaigns.stats(caller, found)
    return to_json({**asdict(stats), "unknown_contact_ids": unknown}).decode()


RESOURCES = (crm_campaign_report,)
