"""Google, as far as mail needs it: drafts that are sent, and the mailbox searched."""

from __future__ import annotations

import httpx

from fleet_common.http import RetryPolicy
from fleet_data.connectors.answers import told
from fleet_data.connectors.models import Identity, OAuth, Provider

_GMAIL = "https://www.googleapis.com/auth/gmail"
COMPOSE, READ = f"{_GMAIL}.compose", f"{_GMAIL}.readonly"


async def identify(http: httpx.AsyncClient) -> Identity:
    """Return the mailbox; its profile needs no scope that mail does not need anyway."""
    address = str(told(await http.get("/gmail/v1/users/me/profile"), "google")["emailAddress"])
    return Identity(external_id=address, label=address)


PROVIDER = Provider(
    name="google",
    title="Google",
    api_url="https://gmail.googleapis.com",
    identify=identify,
    oauth=OAuth(
        authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
        token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
        revoke_url="https://oauth2.googleapis.com/revoke",
        scopes=(COMPOSE, READ),
        # Without these Google gives no refresh token, or only the first time.
        asking={"access_type": "offline", "prompt": "consent"},
    ),
    # Whether a draft may be sent, or deleted, again is for its row to say.
    retry=RetryPolicy(attempts=1),
)
