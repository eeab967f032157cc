"""HubSpot's API, as far as the sync needs it: batches of 100, each sent again while HubSpot says "later".

All reads and writes here come to the same when they are done twice (an upsert names our id, an update says the whole
value), so every request carries an Idempotency-Key: that is what tells the transport that it may repeat it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import httpx

from fleet_common.errors import (
    FleetError,
    InvalidInput,
    NotConfigured,
    PermissionDenied,
    RateLimited,
    Unavailable,
    UpstreamFailed,
)
from fleet_common.http.retry import retry_after_s
from fleet_data.connectors.hubspot.mapping import RECORD_ID, LinkMap, ObjectMap, read
from fleet_data.connectors.hubspot.models import BATCH, Remote

_KINDS = {"company": "companies", "contact": "contacts", "deal": "deals"}
_BUSY_S = 10.0  # limits of HubSpot are per ten seconds
_TOMORROW_S = (
    900.0  # a day's limit: it ends at midnight in the account's time zone, which we do not know
)
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Told:
    """A record that HubSpot took: its id, when it changed, and what it made of the values."""

    external_id: str
    remote: Remote


@dataclass(frozen=True, slots=True)
class Sent:
    """One record for a batch; `key` is the id of HubSpot, or ours for one that may be new."""

    key: str
    properties: Mapping[str, str]


@dataclass(slots=True)
class Written:
    """What became of a batch: what was taken, and why the others were not, by `Sent.key`."""

    taken: dict[str, Told] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Pace:
    """Keeps searches of one process apart: HubSpot allows five a second and account, and counts those it refuses."""

    apart_s: float = 0.25
    _next_at: float = 0.0

    async def wait(self) -> None:
        """Return when it is time for the next search."""
        now = time.monotonic()
        at = max(now, self._next_at)
        self._next_at = at + self.apart_s
        await asyncio.sleep(at - now)


class HubSpot:
    """One account. Answers are read, never believed to be complete: what is missing is named as missing."""

    def __init__(self, http: httpx.AsyncClient, pace: Pace) -> None:
        self._http = http
        self._pace = pace

    async def search(
        self, of: ObjectMap, filters: Sequence[Mapping[str, Any]], *, sort: str
    ) -> list[Remote]:
        """Return the first 100 records that meet all filters, smallest `sort` first."""
        await self._pace.wait()
        body = {
            "filterGroups": [{"filters": list(filters)}],
            "sorts": [{"propertyName": sort, "direction": "ASCENDING"}],
            "properties": of.properties,
            "limit": BATCH,
        }
        told = await self._post(f"/crm/v3/objects/{of.kind}/search", body)
        return await self._linked(of, [read(of, each) for each in told["results"]])

    async def read(
        self, of: ObjectMap, ids: Sequence[str], *, by: str | None = None
    ) -> list[Remote]:
        """Return those of the records that are there; `by` is a unique property, the id without one."""
        if not ids:
            return []
        body: dict[str, Any] = {
            "inputs": [{"id": each} for each in ids],
            "properties": of.properties,
            "propertiesWithHistory": [],
            **({"idProperty": by} if by else {}),
        }
        told = await self._post(f"/crm/v3/objects/{of.kind}/batch/read", body)
        return await self._linked(of, [read(of, each) for each in told["results"]])

    async def archived(self, of: ObjectMap, after: str | None) -> tuple[list[str], str | None]:
        """Return ids of deleted records, and where the next page begins."""
        params = {"archived": "true", "limit": str(BATCH), **({"after": after} if after else {})}
        told = await self._ask("GET", f"/crm/v3/objects/{of.kind}", params=params)
        following = told.get("paging", {}).get("next", {}).get("after")
        return [str(each["id"]) for each in told["results"]], following

    async def update(self, of: ObjectMap, batch: Sequence[Sent]) -> Written:
        """Set properties of records."""
        inputs = [{"id": each.key, "properties": each.properties} for each in batch]
        return await self._write(of, "update", batch, inputs)

    async def upsert(self, of: ObjectMap, batch: Sequence[Sent]) -> Written:
        """Make records, each once, however often this is called: `key` is our id."""
        inputs = [
            {
                "id": each.key,
                "idProperty": RECORD_ID,
                "objectWriteTraceId": each.key,
                "properties": {**each.properties, RECORD_ID: each.key},
            }
            for each in batch
        ]
        return await self._write(of, "upsert", batch, inputs)

    async def archive(self, of: ObjectMap, ids: Sequence[str]) -> None:
        """Delete records; HubSpot keeps them for 90 days."""
        body = {"inputs": [{"id": each} for each in ids]}
        await self._post(f"/crm/v3/objects/{of.kind}/batch/archive", body)

    async def link(self, of: ObjectMap, link: LinkMap, pairs: Sequence[tuple[str, str]]) -> None:
        """Link records; the new end becomes the primary one where there is such a thing."""
        kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": link.type_id}
        inputs = [{"from": {"id": a}, "to": {"id": b}, "types": [kind]} for a, b in pairs]
        if inputs:
            await self._post(f"{_ends(of, link)}/create", {"inputs": inputs})

    async def unlink(self, of: ObjectMap, link: LinkMap, pairs: Sequence[tuple[str, str]]) -> None:
        """Take links away."""
        inputs = [{"from": {"id": a}, "to": [{"id": b}]} for a, b in pairs]
        if inputs:
            await self._post(f"{_ends(of, link)}/archive", {"inputs": inputs})

    async def ensure_record_id(self, of: ObjectMap) -> None:
        """Make the property that holds our id, unless it is there.

        Raises:
            PermissionDenied: the connected account may not.
        """
        path = f"/crm/v3/properties/{of.kind}"
        reply = await self._send("GET", f"{path}/{RECORD_ID}")
        if reply.status_code != 404:
            _checked(reply)
            return
        group = {"companies": "company", "contacts": "contact", "deals": "deal"}[of.kind]
        told = {
            "name": RECORD_ID,
            "label": "CRM record id",
            "type": "string",
            "fieldType": "text",
            "groupName": f"{group}information",
            "hasUniqueValue": True,
        }
        reply = await self._send("POST", path, json=told)
        if reply.status_code != 409:  # another process was quicker
            _checked(reply)

    async def _linked(self, of: ObjectMap, found: list[Remote]) -> list[Remote]:
        """Return the records with what they are linked to."""
        if not found:
            return found
        links: dict[str, dict[str, Sequence[str]]] = {each.id: {} for each in found}
        for link in of.links.values():
            inputs = [{"id": each.id} for each in found]
            told = await self._post(f"{_ends(of, link)}/read", {"inputs": inputs})
            for each in told["results"]:
                links[str(each["from"]["id"])][link.ours] = _ordered(link, each["to"])
        return [replace(each, links=links[each.id]) for each in found]

    async def _write(
        self, of: ObjectMap, verb: str, batch: Sequence[Sent], inputs: Sequence[Mapping[str, Any]]
    ) -> Written:
        """Write all at once; when HubSpot refuses the whole batch, each half by itself until one is to blame."""
        written = Written()
        if not batch:
            return written
        path = f"/crm/v3/objects/{of.kind}/batch/{verb}"
        try:
            told = await self._post(path, {"inputs": list(inputs)})
        except InvalidInput as exc:
            if len(batch) == 1:
                written.refused[batch[0].key] = exc.message
                return written
            middle = len(batch) // 2
            for part in (slice(None, middle), slice(middle, None)):
                half = await self._write(of, verb, batch[part], inputs[part])
                written.taken |= half.taken
                written.refused |= half.refused
            return written
        for each in told["results"]:
            key = str(each.get("objectWriteTraceId") or each["id"])
            written.taken[key] = Told(str(each["id"]), read(of, each))
        reasons = {key: why for error in told.get("errors", ()) for key, why in _blamed(error)}
        for sent in batch:
            if sent.key not in written.taken:
                written.refused[sent.key] = reasons.get(sent.key, "HubSpot did not say why")
        return written

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self._ask("POST", path, json=body)

    async def _ask(self, method: str, path: str, **more: Any) -> Any:
        reply = _checked(await self._send(method, path, **more))
        if reply.status_code == 204:
            return {}
        try:
            return reply.json()
        except ValueError as exc:
            raise UpstreamFailed("HubSpot's answer is not JSON") from exc

    async def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Idempotency-Key": str(uuid4())}
        return await self._http.request(method, path, headers=headers, **more)


def _ends(of: ObjectMap, link: LinkMap) -> str:
    return f"/crm/v4/associations/{of.kind}/{_KINDS[link.to]}/batch"


def _ordered(link: LinkMap, told: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the ids at the other end: the primary one first, then the oldest."""

    def rank(each: Mapping[str, Any]) -> tuple[bool, int]:
        types = {kind["typeId"] for kind in each["associationTypes"]}
        return (link.is_primary and link.type_id not in types, int(each["toObjectId"]))

    return [str(each["toObjectId"]) for each in sorted(told, key=rank)]


def _blamed(error: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the inputs that an error of a batch is about, and why."""
    context = error.get("context") or {}
    keys = [*context.get("objectWriteTraceId", ()), *context.get("ids", ())]
    return [(str(key), str(error.get("message", ""))[:_SHOWN]) for key in keys]


def _checked(reply: httpx.Response) -> httpx.Response:
    """Return the answer.

    Raises:
        RateLimited: later, as HubSpot says or as its limits are.
        NotConfigured: the account is not connected any more.
        PermissionDenied: a scope is missing.
        InvalidInput: HubSpot does not take it.
        Unavailable: HubSpot is away.
    """
    if reply.is_success:
        return reply
    raise _failure(reply)


def _failure(reply: httpx.Response) -> FleetError:
    status, wait_s = reply.status_code, retry_after_s(reply)
    told = _said(reply)
    if status == 429:
        usual_s = _TOMORROW_S if told.get("policyName") == "DAILY" else _BUSY_S
        return RateLimited("HubSpot's limit is used up for now", retry_after_s=wait_s or usual_s)
    if status == 401:
        return NotConfigured(
            "the HubSpot account is not connected any more", hint="Connect it again"
        )
    if status == 403:
        return PermissionDenied("the connected HubSpot account may not do this; a scope is missing")
    if status >= 500:
        return Unavailable("HubSpot", retry_after_s=wait_s)
    return InvalidInput(f"HubSpot: {str(told.get('message', status))[:_SHOWN]}")


def _said(reply: httpx.Response) -> Mapping[str, Any]:
    try:
        told = reply.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
