"""Connecting an account: begun by a caller with a credential of ours, finished by a person in a browser.

The link that joins the two is sealed, bound to the provider and the exact address that the provider leads back to,
names a row of one tenant, and that row is used up by the first who finishes. PKCE binds the provider's answer to the
question. Whoever finishes is shown whose fleet asks before anything is exchanged: a link that somebody else began
connects nothing by itself.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode
from uuid import UUID

import structlog

from fleet_common.approvals import Plan
from fleet_common.errors import InvalidInput, NotConfigured
from fleet_data.claims import Caller
from fleet_data.connectors.credentials import Credentials
from fleet_data.connectors.errors import ConsentWithdrawn, LinkUsedUp, NotConnected, Unreadable
from fleet_data.connectors.models import Account, PastedKey, Provider, Tokens
from fleet_data.connectors.repository import AccountRepository, Begun
from fleet_data.connectors.vault import Vault
from fleet_data.ids import uuid7

log = structlog.get_logger()

LIFETIME_S = 600.0
_WORKER = "connector"
_KEY_CHARS = 500


@dataclass(frozen=True, slots=True)
class Started:
    """A connection that waits for a person.

    Attributes:
        id: of the account, once it is there.
        how: `browser` opens `url` and consents; `key` posts a form to it with the field `key`, or opens it, too.
        hint: what to make at the provider, for a key.
    """

    id: str
    provider: str
    how: Literal["browser", "key"]
    url: str
    expires_s: int
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """What a link of a person's browser leads to."""

    provider: Provider
    tenant: str
    begun: Begun


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a provider can be used by one caller."""

    provider: Provider
    account: Account | None
    is_registered: bool


@dataclass(frozen=True, slots=True)
class Disconnected:
    """An account that is forgotten here.

    Attributes:
        revoked: its provider confirmed that our credential ended there, too.
    """

    provider: str
    account: str
    revoked: bool


@dataclass(frozen=True, slots=True)
class Connections:
    """Connects and disconnects accounts.

    Attributes:
        base_url: of the gateway, as people's browsers reach it; None connects nothing.
    """

    credentials: Credentials
    store: AccountRepository
    vault: Vault
    base_url: str | None

    async def begin(self, caller: Caller, name: str) -> Started:
        """Begin a connection for the caller's tenant, or for the caller where accounts are personal.

        Raises:
            NotConfigured: there is no such connector, or the operator has not set it up.
        """
        provider, id_ = self.credentials.channel(name).provider, uuid7()
        back, verifier = self._back(name), secrets.token_urlsafe(48)
        place = ("verifier", caller.tenant, name, str(id_))
        begun = Begun(
            id=id_,
            provider=name,
            owner=caller.subject if provider.is_personal else "",
            started_by=caller.subject,
            verifier=self.vault.seal(verifier.encode(), place=place),
        )
        state = self._state(caller.tenant, name, id_)
        if provider.oauth is None:
            url = f"{back}?{urlencode({'state': state})}"
        else:
            tokens = self.credentials.channel(name).tokens
            url = tokens.authorize_url(state=state, verifier=verifier, redirect_uri=back)
        async with self.store.changing(caller) as changes:
            await changes.begin(begun, LIFETIME_S)
        hint = provider.key.hint if provider.key else None
        how: Literal["browser", "key"] = "browser" if provider.oauth else "key"
        return Started(str(id_), name, how, url, int(LIFETIME_S), hint)

    async def look(self, name: str, state: str) -> Pending:
        """Return what a link is about, and change nothing.

        Raises:
            LinkUsedUp: it is not one of ours, or was used, or its time is over.
        """
        return await self._pending(name, state, take=False)

    async def finish(self, name: str, state: str, answer: str) -> Account:
        """Connect the account; the link is used up whatever comes of it.

        Args:
            name: the provider.
            state: of the link.
            answer: the provider's code, or the key that a person pasted.

        Raises:
            LinkUsedUp: the link is not one of ours, or was used, or its time is over.
            InvalidInput: the provider does not take the answer.
        """
        pending = await self._pending(name, state, take=True)
        caller = Caller(pending.tenant, pending.begun.started_by)
        try:
            tokens = await self._tokens(pending, answer)
            identity = await self.credentials.identify(name, tokens)
            account = await self.credentials.keep(caller, pending.begun.id, name, identity, tokens)
        except ConsentWithdrawn as exc:
            raise InvalidInput(
                f"{pending.provider.title} did not accept this", hint="Begin again"
            ) from exc
        log.info("account_connected", provider=name, tenant=caller.tenant, by=caller.subject)
        return account

    async def standing(self, caller: Caller) -> Sequence[Standing]:
        """Return every provider, with the account that the caller could use."""
        accounts = {account.provider: account for account in await self.store.list(caller)}
        channels = self.credentials.channels.values()
        return [
            Standing(
                each.provider,
                accounts.get(each.provider.name),
                is_registered=self.vault.can_seal
                and (each.provider.oauth is None or each.client is not None),
            )
            for each in channels
        ]

    async def plan_disconnect(self, caller: Caller, name: str) -> Plan:
        """Return what `disconnect` would forget.

        Raises:
            NotConnected: there is nothing to forget.
        """
        account = await self._account(caller, name)
        title = self.credentials.channel(name).provider.title
        return Plan(
            summary=f"Disconnect the {title} account {account.label}",
            details={"connected by": account.connected_by},
            object_version=str(account.id),
        )

    async def disconnect(self, caller: Caller, name: str) -> Disconnected:
        """Give consent back, and forget the account.

        Raises:
            NotConnected: there is nothing to forget.
        """
        account = await self._account(caller, name)
        revoked = await self.credentials.forget(name, caller)
        log.info("account_disconnected", provider=name, tenant=caller.tenant, by=caller.subject)
        return Disconnected(name, account.label, revoked)

    async def _account(self, caller: Caller, name: str) -> Account:
        _ = self.credentials.channel(name)
        found = [each for each in await self.store.list(caller) if each.provider == name]
        if not found:
            raise NotConnected(name)
        return found[0]

    async def _tokens(self, pending: Pending, answer: str) -> Tokens:
        name, id_ = pending.provider.name, pending.begun.id
        if pending.provider.key is not None:
            return Tokens(_checked(answer, pending.provider.key))
        place = ("verifier", pending.tenant, name, str(id_))
        verifier = self.vault.open(pending.begun.verifier, place=place).decode()
        endpoint = self.credentials.channel(name).tokens
        return await endpoint.exchange(answer, verifier=verifier, redirect_uri=self._back(name))

    async def _pending(self, name: str, state: str, *, take: bool) -> Pending:
        provider = self.credentials.channel(name).provider
        tenant, id_ = self._read(state, name)
        async with self.store.changing(Caller(tenant, _WORKER)) as changes:
            begun = await changes.begun(id_, take=take)
        if begun is None or begun.provider != name:
            raise LinkUsedUp
        return Pending(provider, tenant, begun)

    def _state(self, tenant: str, name: str, id_: UUID) -> str:
        told = json.dumps([tenant, str(id_)]).encode()
        sealed = self.vault.seal(told, place=("state", name, self._back(name)))
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def _read(self, state: str, name: str) -> tuple[str, UUID]:
        try:
            sealed = base64.urlsafe_b64decode(state + "=" * (-len(state) % 4))
            told = self.vault.open(sealed, place=("state", name, self._back(name)))
        except (binascii.Error, ValueError, Unreadable):
            raise LinkUsedUp from None
        tenant, id_ = json.loads(told)
        return tenant, UUID(id_)

    def _back(self, name: str) -> str:
        if self.base_url is None:
            raise NotConfigured(
                "browsers cannot come back here", hint="The operator sets FLEET_DATA_LINKS_URL"
            )
        return f"{self.base_url.rstrip('/')}/oauth/{name}/callback"


def _checked(key: str, of: PastedKey) -> str:
    if len(key) > _KEY_CHARS or not re.fullmatch(of.pattern, key):
        raise InvalidInput("this is not the key that is wanted", hint=of.hint)
    return key
