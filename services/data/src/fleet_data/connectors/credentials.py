"""The one place that credentials of other services come from: a client that is authorized, never a token.

Tokens are read from their row for each session, so that whoever disconnects an account has done so at once. One that
has ended is refreshed by exactly one of all replicas: it holds the row's lock while it asks the provider, stores what
it got, and only then lets anybody use it. The refresh runs in a task of its own: a caller who hangs up in the middle
must not lose a refresh token that the provider has already replaced. Nor must a database that goes away just then: the
task keeps what it got and stores it once the database is back.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import httpx
import structlog

from fleet_common.errors import FleetError, NotConfigured
from fleet_data.claims import Caller
from fleet_data.connectors.authorizing import Bearer, Renewing
from fleet_data.connectors.channels import Channel
from fleet_data.connectors.errors import (
    ConsentWithdrawn,
    NotConnected,
    ScopeMissing,
)
from fleet_data.connectors.models import Account, Identity, OAuthClient, Tokens
from fleet_data.connectors.repository import AccountRepository, Sealed, StoredAccount
from fleet_data.connectors.vault import Vault

log = structlog.get_logger()

_LAST_REFRESH_S = 15.0
_STORE_AGAIN_S = 0.5
_NOBODY = Caller("none", "service")  # what is asked about all tenants needs no claim of one


@dataclass(frozen=True, slots=True)
class Place:
    """Whose account of which provider."""

    caller: Caller
    provider: str
    owner: str


@dataclass(frozen=True, slots=True)
class Exchanged:
    """Tokens that a provider has just given, and the refresh token that it took for them."""

    spent: str = field(repr=False)
    fresh: Tokens


class Credentials:
    """The connected accounts of all tenants."""

    def __init__(
        self, store: AccountRepository, vault: Vault, channels: Mapping[str, Channel]
    ) -> None:
        self._store = store
        self._vault = vault
        self.channels = channels
        self._refreshing: dict[tuple[str, str, str], asyncio.Task[Tokens]] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """At the end of the block, let refreshes under way store what they get."""
        try:
            yield
        finally:
            if running := list(self._refreshing.values()):
                await asyncio.wait(running, timeout=_LAST_REFRESH_S)

    def channel(self, provider: str) -> Channel:
        """Return how a provider is reached.

        Raises:
            NotConfigured: there is none of that name.
        """
        try:
            return self.channels[provider]
        except KeyError:
            raise NotConfigured(f"there is no connector {provider!r}") from None

    def client(self, provider: str) -> OAuthClient:
        """Return what the operator registered at a provider.

        Raises:
            NotConfigured: nothing.
        """
        return self.channel(provider).tokens.client

    @asynccontextmanager
    async def session(
        self, provider: str, caller: Caller, *scopes: str
    ) -> AsyncGenerator[httpx.AsyncClient]:
        """Yield a client that speaks for the account that the caller's tenant connected.

        Args:
            provider: name, such as `hubspot`.
            caller: on whose behalf; a personal account must be the caller's own.
            scopes: what the account must allow.

        Raises:
            NotConnected: there is no account.
            ConsentWithdrawn: there was one.
            ScopeMissing: it does not allow one of `scopes`.
        """
        channel, place = self.channel(provider), self._place(provider, caller)
        stored = await self._stored(place)
        if missing := set(scopes) - set(stored.account.scopes):
            raise ScopeMissing(provider, missing)
        tokens = self._opened(place, stored)
        if stored.is_stale and tokens.refresh is not None:
            tokens = await self._renewed(place, tokens)
        renew = partial(self._renewed, place)
        yield channel.open(Renewing(channel.provider, tokens, renew))

    async def account(self, provider: str, caller: Caller) -> Account:
        """Return the account that `session` would speak for.

        Raises:
            NotConnected: there is none.
            ConsentWithdrawn: there was one.
        """
        return (await self._stored(self._place(provider, caller))).account

    async def tenants_of(self, provider: str, external_id: str) -> Sequence[str]:
        """Return the tenants that connected this account, for what its provider tells unasked."""
        return await self._store.tenants_of(_NOBODY, provider, external_id)

    async def identify(self, provider: str, tokens: Tokens) -> Identity:
        """Return whose account fresh tokens open, as its provider says."""
        channel = self.channel(provider)
        return await channel.provider.identify(channel.open(Bearer(channel.provider, tokens)))

    async def keep(
        self, caller: Caller, id_: UUID, provider: str, identity: Identity, tokens: Tokens
    ) -> Account:
        """Store what opens an account, in the place of the one before it, and return the account."""
        place = self._place(provider, caller)
        async with self._store.changing(caller) as changes:
            return await changes.put(
                id_,
                provider=provider,
                owner=place.owner,
                identity=identity,
                scopes=tokens.scopes,
                by=caller.subject,
                sealed=self._sealed(place, id_, tokens),
            )

    async def forget(self, provider: str, caller: Caller) -> bool:
        """Give consent back and forget the account; False when its provider did not confirm the first.

        Raises:
            NotConnected: there is none.
        """
        place = self._place(provider, caller)
        async with self._store.changing(caller) as changes:
            stored = await changes.find(provider, place.owner, lock=True)
            if stored is None:
                raise NotConnected(provider)
            await changes.remove(stored.account.id)
        if stored.secret is None:
            return True
        try:
            return await self._revoked(place, stored)
        except FleetError as exc:
            log.warning("revocation_failed", provider=provider, error=exc.code)
            return False

    async def reseal(self) -> int:
        """Seal everything anew that another key than the newest had sealed; return how many that were."""
        todo = await self._store.sealed_before(_NOBODY, self._vault.newest)
        for tenant, provider, owner in todo:
            place = Place(Caller(tenant, owner or "service"), provider, owner)
            async with self._store.changing(place.caller) as changes:
                stored = await changes.find(provider, owner, lock=True)
                if stored is not None and stored.secret is not None:
                    id_ = stored.account.id
                    sealed = self._sealed(place, id_, self._opened(place, stored))
                    await changes.reseal(id_, sealed.secret)
        return len(todo)

    async def _renewed(self, place: Place, before: Tokens) -> Tokens:
        """Return tokens in place of some that are not accepted any more.

        Raises:
            ConsentWithdrawn: there are none.
        """
        if before.refresh is None:
            raise ConsentWithdrawn(place.provider)
        key = (place.caller.tenant, place.provider, place.owner)
        task = self._refreshing.get(key)
        if task is None:
            # An empty context: the deadline of whoever comes first is not everybody's.
            task = asyncio.create_task(
                self._renew(place, before), name=f"refresh-{place.provider}", context=Context()
            )
            self._refreshing[key] = task
            task.add_done_callback(lambda done: self._refreshed(key, done))
        return await asyncio.shield(task)

    def _refreshed(self, key: tuple[str, str, str], done: asyncio.Task[Tokens]) -> None:
        del self._refreshing[key]
        failure = None if done.cancelled() else done.exception()
        if failure is not None:
            # Whoever still waits for it gets it, too.
            log.info("refresh_failed", provider=key[1], tenant=key[0], error=str(failure))

    async def _renew(self, place: Place, before: Tokens) -> Tokens:
        """Return what took the place of `before`, stored."""
        got: list[Exchanged] = []
        try:
            return await self._refresh(place, before, got)
        except FleetError as exc:
            if not got or not exc.retryable:
                raise
            log.warning("refreshed_token_kept", provider=place.provider, tenant=place.caller.tenant)
            return await self._store_late(place, got[0])

    async def _store_late(self, place: Place, got: Exchanged) -> Tokens:
        """Return what opens the account, once the database is back and has it."""
        while True:
            await asyncio.sleep(_STORE_AGAIN_S)
            try:
                return await self._store_once(place, got)
            except FleetError as exc:
                if not exc.retryable:
                    raise

    async def _store_once(self, place: Place, got: Exchanged) -> Tokens:
        async with self._store.changing(place.caller) as changes:
            stored = await changes.find(place.provider, place.owner, lock=True)
            if stored is None:
                raise NotConnected(place.provider)
            now = self._opened(place, stored)
            if now.refresh != got.spent:
                return now  # these very tokens, or those of a new consent
            id_ = stored.account.id
            await changes.renew(id_, self._sealed(place, id_, got.fresh))
        return got.fresh

    async def _refresh(self, place: Place, before: Tokens, got: list[Exchanged]) -> Tokens:
        """Ask the provider under the lock of the row; what it gave is in `got`, even when storing it fails."""
        async with self._store.changing(place.caller) as changes:
            stored = await changes.find(place.provider, place.owner, lock=True)
            if stored is None:
                raise NotConnected(place.provider)
            now = self._opened(place, stored)
            if now.access != before.access or now.refresh is None:
                return now  # another replica was first
            id_ = stored.account.id
            withdrawn: ConsentWithdrawn | None = None
            try:
                fresh = await self.channel(place.provider).tokens.refresh(now.refresh)
            except ConsentWithdrawn as exc:
                await changes.withdraw(id_)
                withdrawn = exc
            else:
                got.append(Exchanged(now.refresh, fresh))
                await changes.renew(id_, self._sealed(place, id_, fresh))
        if (
            withdrawn is not None
        ):  # only now, for an exception inside would take the record of it back
            raise withdrawn
        return fresh

    async def _revoked(self, place: Place, stored: StoredAccount) -> bool:
        channel = self.channel(place.provider)
        if channel.provider.oauth is None:
            return False
        return await channel.tokens.revoke(self._opened(place, stored))

    async def _stored(self, place: Place) -> StoredAccount:
        stored = await self._store.find(place.caller, place.provider, place.owner)
        if stored is None:
            raise NotConnected(place.provider)
        if stored.secret is None:
            raise ConsentWithdrawn(place.provider)
        return stored

    def _place(self, provider: str, caller: Caller) -> Place:
        is_personal = self.channel(provider).provider.is_personal
        return Place(caller, provider, caller.subject if is_personal else "")

    def _sealed(self, place: Place, id_: UUID, tokens: Tokens) -> Sealed:
        plain = json.dumps(tokens.to_json()).encode()
        return Sealed(self._vault.seal(plain, place=_bound(place, id_)), tokens.lifetime_s)

    def _opened(self, place: Place, stored: StoredAccount) -> Tokens:
        if stored.secret is None:
            raise ConsentWithdrawn(place.provider)
        plain = self._vault.open(stored.secret, place=_bound(place, stored.account.id))
        return Tokens(**json.loads(plain), scopes=stored.account.scopes)


def _bound(place: Place, id_: UUID) -> tuple[str, ...]:
    return place.caller.tenant, place.provider, place.owner, str(id_)
