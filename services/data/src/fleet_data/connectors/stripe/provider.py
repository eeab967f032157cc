"""Stripe, by a restricted key that a person makes there: it reads two things and can do nothing."""

from __future__ import annotations

import httpx

from fleet_data.connectors.answers import told
from fleet_data.connectors.models import Identity, PastedKey, Provider


async def identify(http: httpx.AsyncClient) -> Identity:
    """Return the account. A key that may not read it must at least do what our tools need."""
    reply = await http.get("/v1/account")
    if reply.status_code == 403:
        told(await http.get("/v1/customers", params={"limit": 1}), "stripe")
        return Identity(external_id="", label="a Stripe account")
    account = told(reply, "stripe")
    shown = account.get("settings", {}).get("dashboard", {}).get("display_name")
    return Identity(str(account["id"]), str(shown or account.get("email") or account["id"]))


PROVIDER = Provider(
    name="stripe",
    title="Stripe",
    api_url="https://api.stripe.com",
    identify=identify,
    key=PastedKey(
        pattern=r"rk_(live|test)_\w+",
        hint="Make a restricted key (rk_…) at dashboard.stripe.com/apikeys that may read Customers and Invoices, "
        "and nothing else.",
    ),
)
