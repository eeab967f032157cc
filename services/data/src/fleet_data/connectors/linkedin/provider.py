"""Sign-in with LinkedIn (OpenID Connect): its member's own name and address, for that member alone."""

from __future__ import annotations

import httpx

from fleet_data.connectors.answers import told
from fleet_data.connectors.models import Identity, OAuth, Provider


async def identify(http: httpx.AsyncClient) -> Identity:
    """Return the member, by name and address as far as they were allowed."""
    profile = told(await http.get("/v2/userinfo"), "linkedin")
    name, email = profile.get("name"), profile.get("email")
    shown = f"{name} <{email}>" if name and email else name or email or profile["sub"]
    return Identity(external_id=str(profile["sub"]), label=str(shown))


PROVIDER = Provider(
    name="linkedin",
    title="LinkedIn",
    api_url="https://api.linkedin.com",
    identify=identify,
    oauth=OAuth(
        authorize_url="https://www.linkedin.com/oauth/v2/authorization",
        token_url="https://www.linkedin.com/oauth/v2/accessToken",  # noqa: S106 - an address
        revoke_url="https://www.linkedin.com/oauth/v2/revoke",
        scopes=("openid", "profile", "email"),
    ),
    is_personal=True,
)
