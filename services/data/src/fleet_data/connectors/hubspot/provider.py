"""HubSpot, as far as the sync of contacts, companies and deals needs it."""

from __future__ import annotations

import httpx

from fleet_data.connectors.answers import told
from fleet_data.connectors.models import Identity, OAuth, Provider

_OBJECTS = ("contacts", "companies", "deals")


async def identify(http: httpx.AsyncClient) -> Identity:
    """Return the portal, which HubSpot names in its webhooks, too."""
    account = told(await http.get("/account-info/v3/details"), "hubspot")
    portal = str(account["portalId"])
    return Identity(external_id=portal, label=f"portal {portal}")


PROVIDER = Provider(
    name="hubspot",
    title="HubSpot",
    api_url="https://api.hubapi.com",
    identify=identify,
    oauth=OAuth(
        authorize_url="https://app.hubspot.com/oauth/authorize",
        token_url="https://api.hubapi.com/oauth/2026-03/token",  # noqa: S106 - an address
        revoke_url="https://api.hubapi.com/oauth/2026-03/token/revoke",
        scopes=(
            "oauth",
            *(f"crm.objects.{name}.{right}" for name in _OBJECTS for right in ("read", "write")),
            # For the property that holds our ids.
            *(f"crm.schemas.{name}.{right}" for name in _OBJECTS for right in ("read", "write")),
        ),
    ),
)
