"""What can be done about HubSpot: start a sync, look what one would do, and see what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from fleet_common.approvals import Plan
from fleet_common.errors import AlreadyExists, Conflict
from fleet_common.idempotency import KeyedCall, once
from fleet_data.claims import Caller
from fleet_data.connectors.hubspot.applying import apply
from fleet_data.connectors.hubspot.mapping import OBJECT_MAPS
from fleet_data.connectors.hubspot.models import (
    SOURCE,
    Position,
    Request,
    Run,
    Synced,
)
from fleet_data.connectors.hubspot.pulling import OVERLAP_MS, pull_page
from fleet_data.connectors.hubspot.syncing import INBOX, Sync
from fleet_data.connectors.models import Account
from fleet_data.crm.models import MASK
from fleet_data.crm.objects import OBJECTS

_TOOL = "connector_sync"
_OBJECT_TYPES: Mapping[str, Synced] = {
    **{name: name for name in OBJECT_MAPS},
    "0-1": "contact",
    "0-2": "company",
    "0-3": "deal",
}


class Connected(Protocol):
    """Who connected what."""

    async def account(self, provider: str, caller: Caller) -> Account:
        """Return the account of the caller's tenant."""

    async def tenants_of(self, provider: str, external_id: str) -> Sequence[str]:
        """Return the tenants that connected an account."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a sync stands."""

    account: str
    run: Run | None
    waiting: Mapping[Synced, int]


@dataclass(frozen=True, slots=True)
class HubSpotSync:
    """The sync of every tenant; each call says on whose behalf."""

    sync: Sync
    connected: Connected
    wake: Callable[[], None] = field(default=lambda: None)

    async def start(self, caller: Caller, request: Request, *, key: str | None) -> UUID:
        """Start a sync, once per key, and return its id.

        Raises:
            NotConnected: the tenant connected no account.
            Conflict: a sync is under way.
            KeyReused: the key was used with another request.
        """
        await self.connected.account(SOURCE, caller)

        async def make() -> Any:
            return str(await changes.start(request))

        try:
            async with self.sync.store.changing(caller) as changes:
                if key is None:
                    id_ = await make()
                else:
                    told = [request.direction, request.since, request.apply_deletes]
                    keyed = KeyedCall.of(caller.tenant, caller.subject, _TOOL, key, told)
                    id_ = await once(changes.records, keyed, make)
        except AlreadyExists:
            raise Conflict(
                "a sync with HubSpot is under way", hint="See connector_sync_status"
            ) from None
        self.wake()
        return UUID(id_)

    async def plan(self, caller: Caller, request: Request) -> Plan | None:
        """Return what would be written at HubSpot, for whoever is asked; None for a sync that only pulls."""
        if request.direction == "pull" and not request.apply_deletes:
            return None
        account = await self.connected.account(SOURCE, caller)
        untold = await self.untold(caller, request.since)
        counts = {
            f"{name}_{what}": str(number)
            for name, numbers in untold.items()
            for what, number in numbers.items()
            if what != "deleted" or request.apply_deletes
        }
        if request.apply_deletes:
            counts["deletes"] = "applied on both sides"
        written = sum(
            n for numbers in untold.values() for w, n in numbers.items() if w != "deleted"
        )
        summary = f"Write {written} records to HubSpot ({account.label}) and bring here what changed there"
        return Plan(summary=summary, details=counts)

    async def untold(self, caller: Caller, since: str | None) -> dict[Synced, dict[str, int]]:
        """Return how many records HubSpot would be told of, by object: created, changed, deleted.

        What HubSpot changed meanwhile may add to that.
        """
        async with self.sync.store.changing(caller, keep=False) as changes:
            return {name: await changes.counted(name, since=since) for name in OBJECT_MAPS}

    async def preview(self, caller: Caller, request: Request, *, pages: int) -> Mapping[str, int]:
        """Return what a sync would come to, looking at so many batches of each object; keeps nothing."""
        counts: Counter[str] = Counter()
        if request.direction != "push":
            async with self.sync.open(caller, writes=False) as hubspot:
                for name in OBJECT_MAPS:
                    of = await self.sync.mapping(caller, name)
                    async with self.sync.store.changing(caller, keep=False) as changes:
                        start = max(0, await changes.lock(name) - OVERLAP_MS)
                    at = Position(at=str(start))
                    for _ in range(pages):
                        page = await pull_page(hubspot, of, at)
                        async with self.sync.store.changing(caller, keep=False) as changes:
                            tally = await apply(changes, of, page.remotes, winner=self.sync.winner)
                        counts.update(tally.counts)
                        if page.following is None:
                            break
                        at = page.following
        if request.direction != "pull":
            for numbers in (await self.untold(caller, request.since)).values():
                counts.update({f"would_push_{what}": n for what, n in numbers.items()})
        return dict(counts)

    async def status(self, caller: Caller) -> Status:
        """Return how the newest sync stands, and what is left to tell HubSpot.

        Raises:
            NotConnected: the tenant connected no account.
        """
        account = await self.connected.account(SOURCE, caller)
        async with self.sync.store.changing(caller, keep=False) as changes:
            run = await changes.latest()
        untold = await self.untold(caller, None)
        waiting = {name: sum(numbers.values()) for name, numbers in untold.items()}
        return Status(account.label, run, waiting)

    async def run(self, caller: Caller, id_: UUID) -> Run:
        """Return a run."""
        async with self.sync.store.changing(caller, keep=False) as changes:
            return await changes.run(id_)

    async def issues(
        self, caller: Caller, *, before: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return the conflict report, newest first; values of masked fields are hidden."""
        found = await self.sync.store.issues(caller, before=before, limit=limit)
        for each in found:
            masks = OBJECTS[each["object"]].masking(caller.masks).masks
            if masks:
                each["message"] = each["kind"]
                each["fields"] = {n: MASK if n in masks else v for n, v in each["fields"].items()}
        return found

    async def hear(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Note which records HubSpot says have changed, for every tenant that connected its account.

        What an event says of a record is not used: it is read anew.
        """
        named: dict[str, dict[Synced, list[str]]] = {}
        for event in events:
            name, ids = _named(event)
            if name is not None and "portalId" in event:
                portal = named.setdefault(str(event["portalId"]), {})
                portal.setdefault(name, []).extend(ids)
        for portal_id, objects in named.items():
            distinct = {name: sorted(set(ids)) for name, ids in objects.items()}
            for tenant in await self.connected.tenants_of(SOURCE, portal_id):
                async with self.sync.store.changing(Caller(tenant, SOURCE)) as changes:
                    await changes.remember(distinct, INBOX)
        self.wake()


def _named(event: Mapping[str, Any]) -> tuple[Synced | None, list[str]]:
    """Return the records that an event is about: also those that were merged, and both ends of an association."""
    kind = str(event.get("subscriptionType", "")).partition(".")[0]
    name = _OBJECT_TYPES.get(str(event.get("objectTypeId") or kind))
    told = [event.get("objectId"), event.get("primaryObjectId"), event.get("fromObjectId")]
    told += event.get("mergedObjectIds") or []
    return name, [str(each) for each in told if isinstance(each, int | str) and str(each).isdigit()]
