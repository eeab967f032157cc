"""Sessions on a real database, against a strict OAuth server: who gets a client, and what one refresh costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from fleet_cli.testing import PostgresServer
from fleet_common.errors import NotConfigured, Unavailable
from fleet_common.testing import wait_until
from fleet_data.claims import Caller
from fleet_data.connectors.credentials import Credentials
from fleet_data.connectors.errors import (
    ConsentWithdrawn,
    ForeignOrigin,
    NotConnected,
    ScopeMissing,
    Unreadable,
)
from fleet_data.connectors.models import Identity, Tokens
from fleet_data.connectors.vault import Vault
from fleet_data.settings import Settings
from fleet_data.testing.oauth import Grant, OAuthServer

Open = Callable[[Settings], AbstractAsyncContextManager[Credentials]]
ADA = Identity("ada@example.com", "ada@example.com")


async def connect(
    credentials: Credentials, caller: Caller, grant: Grant, provider: str = "hubspot"
) -> None:
    tokens = Tokens(grant.access, grant.refresh, 1800.0, ("oauth", "contacts"))
    await credentials.keep(caller, uuid4(), provider, ADA, tokens)


async def status_of(credentials: Credentials, caller: Caller) -> int:
    async with credentials.session("hubspot", caller) as http:
        return (await http.post("/echo", json={"x": 1})).status_code


async def test_an_account_serves_its_tenant_until_it_is_disconnected(
    *,
    linked: Settings,
    oauth: OAuthServer,
    open_replica: Open,
    demo: Caller,
    other: Caller,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    worker = Caller("demo", "worker")
    grant = oauth.allow()
    async with open_replica(linked) as credentials:
        with pytest.raises(NotConnected, match="fleet connect-account hubspot"):
            await status_of(credentials, demo)
        await connect(credentials, demo, grant)
        assert await status_of(credentials, worker) == 200
        account = await credentials.account("hubspot", worker)
        assert (account.label, account.connected_by, account.owner) == (
            "ada@example.com", "key:test0001", "")  # fmt: skip
        # Of another tenant there is neither an account nor a hint of one.
        with pytest.raises(NotConnected):
            await status_of(credentials, other)
        with pytest.raises(ScopeMissing, match="deals"):
            async with credentials.session("hubspot", demo, "contacts", "deals"):
                pass
        async with credentials.session("hubspot", demo, "contacts") as http:
            for url in (
                "https://attacker.example/x",
                "http://169.254.169.254/x",
                "http://[::1]:9/x",
            ):
                with pytest.raises(ForeignOrigin):
                    await http.get(url)
        with pytest.raises(NotConfigured, match="no connector 'nowhere'"):
            await credentials.account("nowhere", demo)
        assert list(await credentials.tenants_of("hubspot", "ada@example.com")) == ["demo"]
        assert await credentials.tenants_of("google", "ada@example.com") == []

        # A personal account is its owner's alone, by the database's own rules.
        await connect(credentials, demo, oauth.allow(), "linkedin")
        assert (await credentials.account("linkedin", demo)).owner == demo.subject
        with pytest.raises(NotConnected):
            await credentials.account("linkedin", worker)

        assert await credentials.forget("hubspot", demo)
        assert not grant.is_live
        with pytest.raises(NotConnected):
            await credentials.forget("hubspot", demo)
        with pytest.raises(NotConnected):
            await status_of(credentials, demo)

        # A provider that is away keeps nobody from disconnecting.
        await connect(credentials, demo, oauth.allow())
        oauth.fault_revoke = 503
        assert not await credentials.forget("hubspot", demo)
        with pytest.raises(NotConnected):
            await status_of(credentials, demo)
    shown = caplog.text + "".join(capfd.readouterr())
    assert grant.access not in shown
    assert grant.refresh not in shown


async def test_one_replica_refreshes_for_all_and_stores_before_anybody_uses_it(
    linked: Settings, oauth: OAuthServer, open_replica: Open, demo: Caller
) -> None:
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(open_replica(linked)) for _ in range(2)]
        await connect(replicas[0], demo, oauth.allow())
        oauth.expire()
        calls = [status_of(each, demo) for each in replicas for _ in range(5)]
        # Had two of them refreshed, the second would have used a spent token, which ends the grant.
        assert set(await asyncio.gather(*calls)) == {200}
        assert oauth.calls["refresh_token"] == 1
        assert oauth.calls["/echo"] == 20

        # Whoever hangs up in the middle of a refresh does not lose the token that came of it.
        oauth.expire()
        oauth.hold.clear()
        oauth.held.clear()
        call = asyncio.create_task(status_of(replicas[0], demo))
        await oauth.held.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        oauth.hold.set()
        assert await status_of(replicas[1], demo) == 200
        assert await status_of(replicas[0], demo) == 200
        assert oauth.calls["refresh_token"] == 2


async def test_a_token_that_came_while_the_database_was_lost_is_kept_until_it_is_back(
    linked: Settings,
    oauth: OAuthServer,
    open_replica: Open,
    demo: Caller,
    postgres_server: PostgresServer,
) -> None:
    name = urlsplit(linked.reader_url.get_secret_value()).path[1:]

    async def told(sql: str) -> None:
        await asyncio.to_thread(postgres_server.execute, sql)

    async with open_replica(linked) as credentials:
        await connect(credentials, demo, oauth.allow())
        oauth.expire()
        oauth.hold.clear()
        oauth.held.clear()
        call = asyncio.create_task(status_of(credentials, demo))
        await oauth.held.wait()
        await told(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await told(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        with capture_logs() as logs:
            oauth.hold.set()

            async def is_kept() -> bool:
                return "refreshed_token_kept" in [each["event"] for each in logs]

            await wait_until(is_kept)
        await told(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert await call == 200
        # The spent token would have ended the grant.
        assert await status_of(credentials, demo) == 200
        assert oauth.calls["refresh_token"] == 1


async def test_a_refusal_of_the_provider_is_told_as_what_it_means(
    linked: Settings,
    oauth: OAuthServer,
    open_replica: Open,
    demo: Caller,
    admin_connection: asyncpg.Connection[Any],
) -> None:
    async with open_replica(linked) as credentials:
        # A token that is about to end is not begun with.
        grant = oauth.allow()
        tokens = Tokens(grant.access, grant.refresh, 30.0, ())
        await credentials.keep(demo, uuid4(), "hubspot", ADA, tokens)
        assert await status_of(credentials, demo) == 200
        assert (oauth.calls["refresh_token"], oauth.calls["/echo"]) == (1, 1)

        # Away: the account stays as it is, and the next call goes through.
        oauth.expire()
        oauth.fault = 503
        with pytest.raises(Unavailable):
            await status_of(credentials, demo)
        oauth.fault = None
        assert await status_of(credentials, demo) == 200

        # Withdrawn: what opened it is gone from the row, too.
        grant.is_live = False
        for _ in range(2):
            with pytest.raises(ConsentWithdrawn, match="fleet connect-account hubspot"):
                await status_of(credentials, demo)
        row = await admin_connection.fetchrow("SELECT secret, withdrawn_at FROM store.accounts")
        assert row is not None
        assert row["secret"] is None
        assert row["withdrawn_at"] is not None
        assert oauth.calls["refresh_token"] == 4
        assert await credentials.forget("hubspot", demo)

        # Nothing to refresh with.
        await credentials.keep(demo, uuid4(), "hubspot", ADA, Tokens("expired"))
        with pytest.raises(ConsentWithdrawn):
            await status_of(credentials, demo)

    # A client that the provider does not know is the operator's to put right.
    strange = [SecretStr("hubspot=stranger:secret")]
    wrong = linked.model_copy(update={"connector_clients": strange})
    async with open_replica(wrong) as credentials:
        await connect(credentials, demo, oauth.allow())
        oauth.expire()
        with pytest.raises(NotConfigured, match="FLEET_DATA_CONNECTOR_CLIENTS"):
            await status_of(credentials, demo)


async def test_what_is_stored_is_sealed_bound_to_its_row_and_moves_to_a_new_key(
    *,
    linked: Settings,
    oauth: OAuthServer,
    open_replica: Open,
    demo: Caller,
    other: Caller,
    admin_connection: asyncpg.Connection[Any],
) -> None:
    new = SecretStr("the-next-credentials-key-of-32-chars")
    both = linked.model_copy(update={"credentials_keys": (*linked.credentials_keys, new)})
    async with open_replica(linked) as credentials:
        grant = oauth.allow()
        await connect(credentials, demo, grant)
        stored = bytes(await admin_connection.fetchval("SELECT secret FROM store.accounts"))
        assert grant.access.encode() not in stored
        assert grant.refresh.encode() not in stored

        # Whoever can write rows still gets nothing of another tenant's.
        await connect(credentials, other, oauth.allow())
        await admin_connection.execute(
            "UPDATE store.accounts SET secret = $1 WHERE tenant = 'other'", stored
        )
        with pytest.raises(Unreadable):
            await status_of(credentials, other)
        await connect(credentials, other, oauth.allow())

    async with open_replica(both) as credentials:
        assert await status_of(credentials, demo) == 200  # the old key still opens
        assert await credentials.reseal() == 2
        assert await credentials.reseal() == 0
        assert await status_of(credentials, other) == 200
    only_new = linked.model_copy(update={"credentials_keys": (new,)})
    async with open_replica(only_new) as credentials:
        assert await status_of(credentials, demo) == 200
    async with open_replica(linked) as credentials:
        with pytest.raises(Unreadable, match="FLEET_DATA_CREDENTIALS_KEYS"):
            await status_of(credentials, demo)
    rows = await admin_connection.fetch("SELECT tenant, id, secret FROM store.accounts")
    place = (rows[0]["tenant"], "hubspot", "", str(rows[0]["id"]))
    assert set(json.loads(Vault([new]).open(rows[0]["secret"], place=place))) == {
        "access", "refresh"}  # fmt: skip


def test_no_credential_is_seen_in_the_text_of_what_holds_it() -> None:
    assert "secret-token" not in repr(Tokens("secret-token", "secret-token"))
