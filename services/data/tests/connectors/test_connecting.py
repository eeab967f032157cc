"""The browser flow through the whole service: what a person sees, and what a thief of a link gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError

from fleet_cli.calling import call_tool
from fleet_common.testing.wire import text
from fleet_data.settings import Settings
from fleet_data.testing.oauth import OAuthServer


def agreeing(asked: list[str]) -> Callable[[str], bool]:
    def answer(question: str) -> bool:
        asked.append(question)
        return True

    return answer


async def begin(client: Client[Any], provider: str) -> dict[str, Any]:
    told = await client.call_tool("connector_connect", {"provider": provider})
    assert told.structured_content is not None
    return told.structured_content


async def status(client: Client[Any]) -> dict[str, list[Any]]:
    told = json.loads(text(await client.call_tool("connector_status", {})))
    return {row[0]: row[1:3] for row in told["rows"]}


async def test_a_person_connects_an_account_and_ends_it_again(
    site: Any,
    oauth: OAuthServer,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with site.client() as client, site.client(role="viewer") as colleague:
        assert (await status(client))["hubspot"] == ["open", None]
        for provider, whose in (
            ("google", "ada@example.com"),
            ("hubspot", "portal 4711"),
            ("linkedin", "Ada <a@b.example>"),
        ):
            started = await begin(client, provider)
            page, form = await site.consent(started["url"])
            assert page.headers["cache-control"] == "no-store"
            assert "key:" in page.text  # who asks
            assert "demo" in page.text  # for whom
            # A browser that opens the link ahead, or twice, changes nothing.
            assert (await site.browser.get(str(page.url))).status_code == 200
            assert (await status(client))[provider] == ["open", None]
            done = await site.press(provider, form)
            assert done.status_code == 200
            assert f"<untrusted>{whose}</untrusted>" in (await status(client))[provider]

        # What the tenant shares a colleague may know of; what is personal not.
        assert (await status(colleague))["google"][0] == "connected"
        assert (await status(colleague))["linkedin"] == ["open", None]
        with pytest.raises(ToolError, match="unknown_tool"):
            await begin(colleague, "google")

        # As `fleet disconnect-account` does it: a person at the terminal is asked.
        asked: list[str] = []
        told = {"provider": "hubspot"}
        where, key = f"{site.url}/mcp", site.key("admin", "demo")
        ended = await call_tool(
            where, key, "connector_disconnect", told, timeout_s=30, asked=agreeing(asked)
        )
        assert ended.structured_content == {**told, "account": "portal 4711", "revoked": True}
        assert asked[0].startswith("Disconnect the HubSpot account portal 4711")
        assert (await status(client))["hubspot"] == ["open", None]
        with pytest.raises(ToolError, match="not_connected"):
            await client.call_tool("connector_disconnect", {"provider": "hubspot"})
    async with site.client(agrees=False) as client:
        with pytest.raises(ToolError, match="approval_denied"):
            await client.call_tool("connector_disconnect", {"provider": "google"})
        assert (await status(client))["google"][0] == "connected"
    shown = caplog.text + "".join(capfd.readouterr())
    for grant in oauth.grants:
        assert grant.access not in shown
        assert grant.refresh not in shown


async def test_a_link_is_good_once_for_its_provider_and_its_tenant(
    site: Any, oauth: OAuthServer, admin_connection: asyncpg.Connection[Any]
) -> None:
    async with site.client() as client, site.client(tenant="other") as stranger:
        _, form = await site.consent((await begin(client, "hubspot"))["url"])

        # Stolen, and used for another provider; changed; made up.
        assert (await site.press("google", form)).status_code == 404
        for wrong in (form["state"][:-4] + "AAAA", form["state"] + "A", "", "é", "A" * 5000):
            assert (await site.press("hubspot", {**form, "state": wrong})).status_code == 404
        assert (await site.press("hubspot", {"state": form["state"]})).status_code == 400
        assert (await site.press("nowhere", form)).status_code == 501

        # A code of another question: PKCE refuses it, and the link is used up.
        _, theirs = await site.consent((await begin(stranger, "hubspot"))["url"])
        mixed = {"state": form["state"], "code": theirs["code"]}
        refused = await site.press("hubspot", mixed)
        assert refused.status_code == 400
        assert "did not accept" in refused.text
        assert (await site.press("hubspot", form)).status_code == 404
        assert (await status(client))["hubspot"] == ["open", None]

        # Replayed after it did what it was for; the account is the tenant's that began it, and nobody else's.
        _, form = await site.consent((await begin(client, "hubspot"))["url"])
        assert (await site.press("hubspot", form)).status_code == 200
        assert (await site.press("hubspot", form)).status_code == 404
        assert (await status(client))["hubspot"][0] == "connected"
        assert (await status(stranger))["hubspot"] == ["open", None]

        # Too late.
        _, form = await site.consent((await begin(client, "hubspot"))["url"])
        await admin_connection.execute("UPDATE store.connections SET expires_at = now()")
        assert (await site.press("hubspot", form)).status_code == 404
        assert await admin_connection.fetchval("SELECT count(*) FROM store.accounts") == 1


async def test_the_question_to_the_provider_is_the_least_and_leads_back_to_one_address(
    site: Any, oauth: OAuthServer
) -> None:
    async with site.client() as client:
        link = (await begin(client, "google"))["url"]
        asked = {name: each[0] for name, each in parse_qs(urlsplit(link).query).items()}
        assert asked["redirect_uri"] == f"{site.url}/oauth/google/callback"
        assert asked["code_challenge_method"] == "S256"
        assert set(asked["scope"].split()) == {
            "https://www.googleapis.com/auth/gmail.compose",
            "https://www.googleapis.com/auth/gmail.readonly",
        }
        # Whoever says no is told so, and nothing is connected.
        oauth.consents = False
        page, _ = await site.consent(link)
        assert "you did not agree" in page.text
        # Less was allowed than asked for: it is connected, and says what it lacks where that is needed.
        oauth.consents, oauth.scope = True, "https://www.googleapis.com/auth/gmail.compose"
        _, form = await site.consent(link)
        assert (await site.press("google", form)).status_code == 200
        oauth.fault = 503
        _, form = await site.consent((await begin(client, "hubspot"))["url"])
        assert (await site.press("hubspot", form)).status_code == 503
        assert (await status(client))["hubspot"] == ["open", None]


async def test_what_the_operator_left_out_is_named(
    connect: Callable[..., Any], settings: Settings
) -> None:
    async with connect() as client:
        with pytest.raises(ToolError, match="FLEET_DATA_LINKS_URL"):
            await begin(client, "google")
        states = {name: state for name, (state, _) in (await status(client)).items()}
        off = ("google", "hubspot", "linkedin")
        assert states == {**dict.fromkeys(off, "off"), "slack": "open", "stripe": "open"}
    keyless = settings.model_copy(update={"credentials_keys": (), "links_url": "https://x"})
    async with connect(settings=keyless) as client:
        with pytest.raises(ToolError, match="FLEET_DATA_CREDENTIALS_KEYS"):
            await begin(client, "stripe")
        assert {state for state, _ in (await status(client)).values()} == {"off"}
