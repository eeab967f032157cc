"""Second opinions: our side against servers of other authors, and our emulator against Google's own client.

`emulate` knows Google's sign-in, Slack, and Stripe's customers; it has no HubSpot, no LinkedIn, no invoices of Stripe,
and takes any token of Google. What it lacks our own emulators answer, held to the official clients beside their tests.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, closing
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from google.auth.exceptions import RefreshError
from google.oauth2.credentials import Credentials as GoogleCredentials

# Google's libraries carry no types.
from google_auth_httplib2 import Request  # type: ignore[import-untyped]
from httplib2 import Http  # type: ignore[import-untyped]
from pydantic import SecretStr

from fleet_cli.engines.freeport import free_port
from fleet_common.http import client_on, open_transport
from fleet_common.testing import serving
from fleet_common.testing.npm import NODE, npm_packages
from fleet_data.claims import Caller
from fleet_data.connectors.errors import ConsentWithdrawn
from fleet_data.connectors.google.provider import PROVIDER as GOOGLE
from fleet_data.connectors.models import OAuth, OAuthClient
from fleet_data.connectors.oauth import TokenEndpoint
from fleet_data.connectors.slack.repository import PostRepository
from fleet_data.connectors.slack.service import Message, Slack
from fleet_data.connectors.stripe.service import Stripe
from fleet_data.pool import Database
from fleet_data.settings import Settings
from fleet_data.testing.oauth import CLIENT_ID, CLIENT_SECRET, OAuthServer

BACK = "https://fleet.example.com/oauth/google/callback"
SERVICES = ("google", "slack", "stripe")


@pytest.fixture(scope="session")
def emulated(emulate_pins: Any) -> Iterator[dict[str, str]]:
    """The base URLs of emulate's services, by name."""
    program = npm_packages(emulate_pins) / "node_modules" / "emulate" / "dist" / "index.js"
    command = [str(NODE), str(program), "start", "--service", ",".join(SERVICES), "--port"]
    for _ in range(5):  # it takes the ports that follow as well, and somebody may have one of them
        port = free_port()
        with subprocess.Popen([*command, str(port)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            if any("Ready" in line for line in iter(process.stdout.readline, "")):
                yield {name: f"http://127.0.0.1:{port + n}" for n, name in enumerate(SERVICES)}
                process.terminate()
                return
    pytest.fail("emulate found no ports in a row that are free")


@pytest.fixture
async def endpoint(emulated: dict[str, str]) -> AsyncGenerator[TokenEndpoint]:
    """Google's, as emulate serves it."""
    base = emulated["google"]
    assert GOOGLE.oauth is not None
    oauth = OAuth(
        authorize_url=f"{base}/o/oauth2/v2/auth",
        token_url=f"{base}/oauth2/token",
        revoke_url=f"{base}/oauth2/revoke",
        scopes=GOOGLE.oauth.scopes,
        asking=GOOGLE.oauth.asking,
    )
    client = OAuthClient("client", SecretStr("secret"))
    async with open_transport(name="google") as transport:
        yield TokenEndpoint("google", oauth, client, client_on(transport))


async def consented(endpoint: TokenEndpoint, verifier: str) -> str:
    """Agree as a person does, and return the code."""
    link = endpoint.authorize_url(state="s-1", verifier=verifier, redirect_uri=BACK)
    async with httpx.AsyncClient(verify=False) as browser:
        page = (await browser.get(link)).text
        form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
        action = urlsplit(endpoint.oauth.authorize_url).path + "/callback"
        data = {name: unescape(value) for name, value in form.items()}
        reply = await browser.post(str(httpx.URL(link).join(action)), data=data)
    back = parse_qs(urlsplit(reply.headers["location"]).query)
    assert back["state"] == ["s-1"]
    return back["code"][0]


async def test_a_server_of_other_authors_gives_tokens_for_our_pkce_and_refreshes_them(
    endpoint: TokenEndpoint,
) -> None:
    verifier = secrets.token_urlsafe(48)
    code = await consented(endpoint, verifier)
    with pytest.raises(ConsentWithdrawn):
        await endpoint.exchange(code, verifier="of-another-question", redirect_uri=BACK)
    tokens = await endpoint.exchange(code, verifier=verifier, redirect_uri=BACK)
    assert set(tokens.scopes) == set(endpoint.oauth.scopes)
    assert tokens.refresh is not None
    with pytest.raises(ConsentWithdrawn):
        await endpoint.exchange(code, verifier=verifier, redirect_uri=BACK)
    fresh = await endpoint.refresh(tokens.refresh)
    assert fresh.access != tokens.access
    assert fresh.refresh == tokens.refresh  # not rotated there, so it stays
    with pytest.raises(ConsentWithdrawn):
        await endpoint.refresh("nobody's")
    assert await endpoint.revoke(tokens)


async def test_slack_and_stripe_of_other_authors_answer_our_connectors(
    emulated: dict[str, str],
    settings: Settings,
    database: Database,
    connected: Any,
    open_replica: Callable[[Settings], Any],
) -> None:
    demo = Caller("demo", "key:test0001")
    urls = [f"{name}={emulated[name]}" for name in ("slack", "stripe")]
    chosen = settings.model_copy(update={"connector_urls": urls})
    await connected("slack", token="xoxb-test")
    await connected("stripe", token="rk_test_x")
    async with AsyncExitStack() as stack:
        credentials = await stack.enter_async_context(open_replica(chosen))
        slack = Slack(credentials, PostRepository(database))
        posted = await slack.post(Message(demo, "general", "Deal won", "deal-0001"))
        assert (posted.state, posted.channel) == ("posted", "C000000001")
        async with credentials.session("slack", demo) as http:
            who = await credentials.channel("slack").provider.identify(http)
        assert who.label == "admin in Emulate"
        page = await Stripe(credentials).customers(demo, email=None, limit=5, cursor=None)
        assert page.values[0][2] == "test@example.com"
        assert page.next_cursor is None


async def test_googles_own_client_refreshes_at_our_emulator() -> None:
    server = OAuthServer(rotates=False)
    grant = server.allow("https://www.googleapis.com/auth/gmail.compose")

    def refresh(url: str, token: str, *scopes: str) -> str:
        credentials = GoogleCredentials(  # type: ignore[no-untyped-call]
            None,
            refresh_token=token,
            token_uri=f"{url}/token",
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            scopes=scopes or None,
        )
        with closing(Http()) as http:
            credentials.refresh(Request(http))  # type: ignore[no-untyped-call]
        return str(credentials.token)

    async with serving(server.app()) as url:
        assert await asyncio.to_thread(refresh, url, grant.refresh) == grant.access
        with pytest.raises(RefreshError, match="invalid_grant"):
            await asyncio.to_thread(refresh, url, "nobody's")
