"""A stateful HubSpot on a loopback port: the calls that fleet_data makes, its limits, and faults on demand.

    python services/data/tests/emulate/hubspot.py --port 4005

What a bearer token begins with, up to its first dot, names the account (portal) it is for. `PUT /emulator/faults` says
what goes wrong next there, `POST /emulator/fill` makes records in bulk, `GET /emulator/state` returns all there is.
Prints its URL when it is up.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import time
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

MOST_INPUTS = 100
MOST_FOUND = (
    10_000  # "The search endpoints are limited to 10,000 total results for any given query"
)
LIFECYCLE = {"subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity",
             "customer", "evangelist", "other"}  # fmt: skip
STAGES = {"appointmentscheduled": "0.2", "qualifiedtobuy": "0.4", "presentationscheduled": "0.6",
          "decisionmakerboughtin": "0.8", "contractsent": "0.9", "closedwon": "1.0",
          "closedlost": "0.0"}  # fmt: skip
_DEFAULTS = {"createdate", "hs_object_id", "hs_lastmodifieddate"}
PROPERTIES = {
    "contacts": {"firstname", "lastname", "email", "phone", "jobtitle", "lifecyclestage", "country",
                 "city", "lastmodifieddate", "customer_tier", *_DEFAULTS},
    "companies": {"name", "domain", "industry", "numberofemployees", "annualrevenue", "country",
                  "city", "website", "phone", "description", *_DEFAULTS},
    "deals": {"dealname", "amount", "deal_currency_code", "closedate", "pipeline", "dealstage",
              "description", *_DEFAULTS},
}  # fmt: skip
SINGULAR = {"contact": "contacts", "company": "companies", "deal": "deals",
            "0-1": "contacts", "0-2": "companies", "0-3": "deals"}  # fmt: skip
MODIFIED = {"contacts": "lastmodifieddate"}  # all others: hs_lastmodifieddate
NUMBERS = {"numberofemployees", "annualrevenue", "amount"}
# Type ids of HubSpot's own associations: (unlabelled, primary or None).
TYPES = {("contacts", "companies"): (279, 1), ("companies", "contacts"): (280, 2),
         ("deals", "companies"): (341, 5), ("companies", "deals"): (342, 6),
         ("deals", "contacts"): (3, None), ("contacts", "deals"): (4, None)}  # fmt: skip


def iso(ms: int) -> str:
    return (
        datetime.fromtimestamp(ms / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def ms_of(text: str) -> float:
    return (
        float(text)
        if re.fullmatch(r"-?\d+", text)
        else datetime.fromisoformat(text).timestamp() * 1000
    )


class Refused(Exception):
    """What HubSpot answers instead."""

    def __init__(self, status: int, category: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"status": "error", "message": message, "category": category,
                     "correlationId": "00000000-0000-0000-0000-000000000000", **more}  # fmt: skip


@dataclass
class Record:
    id: str
    created: int
    modified: int
    properties: dict[str, str]
    archived: int | None = None


@dataclass
class Portal:
    id: int
    records: dict[str, dict[str, Record]] = field(
        default_factory=lambda: {k: {} for k in PROPERTIES}
    )
    properties: dict[str, set[str]] = field(
        default_factory=lambda: {k: set(v) for k, v in PROPERTIES.items()}
    )
    unique: dict[str, set[str]] = field(
        default_factory=lambda: {"contacts": {"email"}, "companies": set(), "deals": set()}
    )
    keys: dict[tuple[str, str, str], str] = field(default_factory=dict)  # unique values → ids
    # (from type, from id, to type) → id at the other end → type ids
    links: dict[tuple[str, str, str], dict[str, set[int]]] = field(default_factory=dict)
    faults: dict[str, deque[Any]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)  # ids that the search does not know yet
    calls: Counter[str] = field(default_factory=Counter)
    recent: deque[float] = field(default_factory=deque)
    searches: deque[float] = field(default_factory=deque)
    per_10s: int = 100
    search_per_s: int = 5
    most_found: int = MOST_FOUND
    daily: int = 250_000
    used: int = 0
    ids: Iterator[int] = field(default_factory=lambda: count(101))

    def now(self) -> int:
        return int(time.time() * 1000)

    def of(self, kind: str) -> dict[str, Record]:
        return self.records[kind]

    def live(self, kind: str) -> list[Record]:
        return [r for r in self.of(kind).values() if r.archived is None]

    def find(self, kind: str, name: str, value: str) -> Record | None:
        if name in {"", "hs_object_id"}:
            record = self.of(kind).get(value)
            return record if record is not None and record.archived is None else None
        if name not in self.unique[kind]:
            raise Refused(400, "VALIDATION_ERROR", f"{name} is not a unique property")
        key = value.lower() if name == "email" else value
        record = self.of(kind).get(self.keys.get((kind, name, key), ""))
        if record is None or record.archived is not None or record.properties.get(name) != key:
            return None
        return record

    def checked(self, kind: str, values: dict[str, Any]) -> dict[str, str]:
        """Return what is stored of `values`, as HubSpot writes it; empty text clears."""
        stored = {}
        for name, value in values.items():
            if name not in self.properties[kind]:
                raise invalid("PROPERTY_DOESNT_EXIST", name, f'Property "{name}" does not exist')
            stored[name] = self._checked(name, "" if value is None else str(value))
        return stored

    @staticmethod
    def _checked(name: str, text: str) -> str:
        if not text:
            return text
        if name == "email":
            if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", text):
                raise invalid("INVALID_EMAIL", name, f"Email address {text} is invalid")
            return text.lower()
        if name in NUMBERS and not re.fullmatch(r"-?\d+(\.\d+)?", text):
            raise invalid("INVALID_DOUBLE", name, f"{text} was not a valid number.")
        allowed = {"lifecyclestage": LIFECYCLE, "dealstage": set(STAGES)}.get(name)
        if allowed is not None and text not in allowed:
            raise invalid("INVALID_OPTION", name, f"{text} was not one of the allowed options")
        if name == "closedate":
            return iso(
                int(ms_of(text if "T" in text or text.isdigit() else f"{text}T00:00:00+00:00"))
            )
        return text

    def write(self, kind: str, record: Record, values: dict[str, str]) -> Record:
        for name in self.unique[kind] & values.keys():
            other = self.find(kind, name, values[name]) if values[name] else None
            if other is not None and other is not record:
                message = f"{kind[:-1].title()} already exists. Existing ID: {other.id}"
                raise Refused(409, "CONFLICT", message)
        record.properties.update(values)
        record.properties = {k: v for k, v in record.properties.items() if v != ""}
        self.index(kind, record)
        record.modified = max(self.now(), record.modified + 1)
        return record

    def index(self, kind: str, record: Record) -> None:
        for name in self.unique[kind] & record.properties.keys():
            self.keys[kind, name, record.properties[name]] = record.id

    def make(self, kind: str, values: dict[str, str]) -> Record:
        now = self.now()
        record = Record(str(next(self.ids)), now, now - 1, {})
        self.write(kind, record, values)
        self.of(kind)[record.id] = record
        return record

    def link(self, kind: str, id_: str, to: str, other: str, wanted: set[int]) -> None:
        """Link both ways; a primary takes that label from all others, and the first company gets it."""
        plain, primary = TYPES[kind, to]
        held = self.links.setdefault((kind, id_, to), {})
        is_first = primary is not None and not held
        types = {plain, *wanted, *({primary} if is_first and primary else set())}
        if primary in types:
            for each in held.values():
                each.discard(primary)
        held.setdefault(other, set()).update(types)
        back, back_primary = TYPES[to, kind]
        mirror = self.links.setdefault((to, other, kind), {})
        mirror.setdefault(id_, set()).update(
            {back, *({back_primary} if primary in types and back_primary else set())}
        )
        self.of(kind)[id_].modified = max(self.now(), self.of(kind)[id_].modified + 1)

    def unlink(self, kind: str, id_: str, to: str, other: str) -> None:
        held = self.links.get((kind, id_, to), {})
        gone = held.pop(other, set())
        self.links.get((to, other, kind), {}).pop(id_, None)
        primary = TYPES[kind, to][1]
        if primary in gone and held:
            held[min(held, key=int)].add(primary)
        self.of(kind)[id_].modified = max(self.now(), self.of(kind)[id_].modified + 1)

    def shown(self, kind: str, record: Record, wanted: set[str]) -> dict[str, Any]:
        own = {"hs_object_id": record.id, "createdate": iso(record.created),
               "hs_lastmodifieddate": iso(record.modified), "lastmodifieddate": iso(record.modified)}  # fmt: skip
        always = {"hs_object_id", "createdate", MODIFIED.get(kind, "hs_lastmodifieddate")}
        names = (wanted & self.properties[kind]) | always
        told = {n: own.get(n) or record.properties.get(n) for n in sorted(names)}
        base = {"id": record.id, "properties": told, "createdAt": iso(record.created),
                "updatedAt": iso(record.modified), "archived": record.archived is not None}  # fmt: skip
        return base if record.archived is None else {**base, "archivedAt": iso(record.archived)}


def invalid(code: str, name: str, message: str) -> Refused:
    detail = {"message": message, "code": code, "context": {"propertyName": [name]}}
    return Refused(
        400, "VALIDATION_ERROR", f"Property values were not valid: {message}", errors=[detail]
    )


def limited(policy: str, wait_s: int | None) -> JSONResponse:
    told = {"status": "error", "message": f"You have reached your {policy.lower()} limit.",
            "errorType": "RATE_LIMIT", "policyName": policy, "groupName": "emulator"}  # fmt: skip
    headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
    return JSONResponse(told, 429, headers=headers)


def failed(fault: Any) -> Response | None:
    """Return what goes wrong instead of the call."""
    match fault:
        case 429:
            return limited("TEN_SECONDLY_ROLLING", 1)
        case "daily":
            return limited("DAILY", None)
        case "drop_before":
            return drop()
        case int():
            return JSONResponse({"status": "error", "message": "fault"}, fault)
        case _:
            return None


Handler = Callable[[Portal, Request, Any], Response]


class HubSpot:
    """All portals."""

    def __init__(self) -> None:
        self.portals: dict[str, Portal] = {}
        self.generations: Counter[str] = Counter()

    def app(self) -> Starlette:
        objects, linked = "/crm/v3/objects/{kind}", "/crm/v4/associations/{kind}/{to}/batch"
        calls: list[tuple[str, str, str, Handler]] = [
            ("POST", f"{objects}/search", "search", self.search),
            ("GET", objects, "list", self.list),
            ("POST", f"{objects}/batch/read", "batch.read", self.read),
            ("POST", f"{objects}/batch/create", "batch.create", self.create),
            ("POST", f"{objects}/batch/update", "batch.update", self.update),
            ("POST", f"{objects}/batch/upsert", "batch.upsert", self.upsert),
            ("POST", f"{objects}/batch/archive", "batch.archive", self.archive),
            ("POST", f"{linked}/read", "associations.read", self.read_links),
            ("POST", f"{linked}/create", "associations.create", self.create_links),
            ("POST", f"{linked}/archive", "associations.archive", self.archive_links),
            ("GET", "/crm/v3/properties/{kind}/{name}", "properties.get", self.get_property),
            ("POST", "/crm/v3/properties/{kind}", "properties.create", self.create_property),
            ("GET", "/crm/v3/pipelines/deals", "pipelines.list", self.pipelines),
        ]
        routes = [
            Route(path, self.call(name, fn), methods=[verb]) for verb, path, name, fn in calls
        ]
        return Starlette(
            routes=[
                *routes,
                Route("/oauth/authorize", self.authorize),
                Route("/oauth/v1/token", self.token, methods=["POST"]),
                Route("/oauth/v1/access-tokens/{token}", self.about_token),
                Route("/emulator/faults", self.set_faults, methods=["PUT"]),
                Route("/emulator/fill", self.fill, methods=["POST"]),
                Route("/emulator/state", self.state),
                Route("/emulator/calls", self.show_calls),
            ]
        )

    def portal(self, name: str) -> Portal:
        return self.portals.setdefault(name, Portal(zlib.crc32(name.encode())))

    def of(self, request: Request) -> Portal | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token or "revoked" in token:
            return None
        name, _, generation = token.partition(".")
        if generation.isdigit() and int(generation) < self.generations[name]:
            return None  # an access token that was replaced
        return self.portal(name)

    def call(self, name: str, handle: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            portal = self.of(request)
            if portal is None:
                refusal = Refused(401, "EXPIRED_AUTHENTICATION", "The OAuth token used is expired")
                return JSONResponse(refusal.body, 401)
            portal.calls[name] += 1
            faults = portal.faults.get(name)
            fault = faults.popleft() if faults else None
            if (broken := failed(fault) or self.over(portal, name)) is not None:
                return broken
            body = await request.json() if await request.body() else {}
            try:
                response = handle(portal, request, body)
            except Refused as exc:
                response = JSONResponse(exc.body, exc.status)
            return drop() if fault == "drop_after" else response

        return answer

    @staticmethod
    def over(portal: Portal, name: str) -> Response | None:
        now = time.monotonic()
        windows = [(portal.recent, 10.0, portal.per_10s, "TEN_SECONDLY_ROLLING")]
        if name == "search":
            windows.append((portal.searches, 1.0, portal.search_per_s, "SECONDLY"))
        if portal.used >= portal.daily:
            return limited("DAILY", None)
        for window, length, most, policy in windows:
            while window and window[0] < now - length:
                window.popleft()
            if len(window) >= most:
                return limited(policy, max(1, round(length - (now - window[0]))))
        for window, *_ in windows:
            window.append(now)
        portal.used += 1
        return None

    # -- objects

    def search(self, portal: Portal, request: Request, body: Any) -> Response:
        kind, limit, after = (
            kind_of(request),
            int(body.get("limit", 10)),
            int(body.get("after") or 0),
        )
        if limit > 200:
            raise Refused(400, "VALIDATION_ERROR", "limit: at most 200")
        if after + limit > portal.most_found:
            raise Refused(400, "VALIDATION_ERROR", "paging past 10,000 results is not supported")
        groups = body.get("filterGroups") or []
        rows = [
            r for r in portal.live(kind)
            if r.id not in portal.hidden
            and (not groups or any(all(meets(portal, kind, r, f) for f in g["filters"]) for g in groups))
        ]  # fmt: skip
        sorts = body.get("sorts") or []
        if len(sorts) > 1:
            raise Refused(400, "VALIDATION_ERROR", "only one sort is supported")
        for sort in sorts:
            told = {"propertyName": sort} if isinstance(sort, str) else sort
            name, falls = told["propertyName"], told.get("direction") == "DESCENDING"
            rows.sort(
                key=lambda r: comparable(value_of(r, name)),
                reverse=falls,
            )
        page = rows[after : after + limit]
        answer: dict[str, Any] = {
            "total": len(rows),
            "results": [portal.shown(kind, r, set(body.get("properties") or [])) for r in page],
        }
        if after + limit < len(rows):
            answer["paging"] = {"next": {"after": str(after + limit)}}
        return JSONResponse(answer)

    def list(self, portal: Portal, request: Request, _: Any) -> Response:
        kind, asked = kind_of(request), request.query_params
        limit, after = int(asked.get("limit", 10)), int(asked.get("after", 0))
        is_archived = asked.get("archived", "").lower() == "true"
        rows = [r for r in portal.of(kind).values()
                if (r.archived is not None) == is_archived and int(r.id) > after]  # fmt: skip
        rows.sort(key=lambda r: int(r.id))
        names = {n for part in asked.getlist("properties") for n in part.split(",")}
        answer: dict[str, Any] = {"results": [portal.shown(kind, r, names) for r in rows[:limit]]}
        if len(rows) > limit:
            answer["paging"] = {"next": {"after": rows[limit - 1].id}}
        return JSONResponse(answer)

    def read(self, portal: Portal, request: Request, body: Any) -> Response:
        kind, by, names = (
            kind_of(request),
            body.get("idProperty") or "",
            set(body.get("properties") or []),
        )
        found, missing = [], []
        for each in inputs_of(body):
            record = portal.find(kind, by, str(each["id"]))
            (missing.append(str(each["id"])) if record is None else found.append(record))
        lost = [not_found(kind, missing)] if missing else []
        return batch([portal.shown(kind, r, names) for r in found], lost)

    def create(self, portal: Portal, request: Request, body: Any) -> Response:
        kind = kind_of(request)
        checked = [portal.checked(kind, each["properties"]) for each in inputs_of(body)]
        made = [portal.make(kind, values) for values in checked]
        return batch([portal.shown(kind, r, set(r.properties)) for r in made], [], status=201)

    def update(self, portal: Portal, request: Request, body: Any) -> Response:
        kind, done, missing = kind_of(request), [], []
        checked = [portal.checked(kind, each["properties"]) for each in inputs_of(body)]
        for each, values in zip(body["inputs"], checked, strict=True):
            record = portal.find(kind, each.get("idProperty") or "", str(each["id"]))
            if record is None:
                missing.append(str(each["id"]))
                continue
            portal.write(kind, record, values)
            done.append(portal.shown(kind, record, set(values)))
        return batch(done, [not_found(kind, missing)] if missing else [])

    def upsert(self, portal: Portal, request: Request, body: Any) -> Response:
        """Take each by itself; one that fails is named by its `objectWriteTraceId`."""
        kind, done, errors = kind_of(request), [], []
        for each in inputs_of(body):
            by, id_ = each["idProperty"], str(each["id"])
            try:
                values = portal.checked(kind, {**each["properties"], by: id_})
                record = portal.find(kind, by, id_)
                is_new = record is None
                record = (
                    portal.make(kind, values)
                    if record is None
                    else portal.write(kind, record, values)
                )
            except Refused as exc:
                context = {"objectWriteTraceId": [each.get("objectWriteTraceId") or ""]}
                errors.append({**exc.body, "context": context})
                continue
            told = {**portal.shown(kind, record, set(values)), "new": is_new}
            done.append({**told, "objectWriteTraceId": each.get("objectWriteTraceId")})
        return batch(done, errors)

    def archive(self, portal: Portal, request: Request, body: Any) -> Response:
        for each in inputs_of(body):
            if (record := portal.find(kind_of(request), "", str(each["id"]))) is not None:
                record.archived = portal.now()
        return Response(status_code=204)

    # -- associations

    def read_links(self, portal: Portal, request: Request, body: Any) -> Response:
        kind, to = ends_of(request)
        found, missing = [], []
        for each in inputs_of(body, most=1000):
            id_ = str(each["id"])
            held = portal.links.get((kind, id_, to), {})
            types = TYPES[kind, to]
            told = [
                {"toObjectId": int(other), "associationTypes": [
                    {"category": "HUBSPOT_DEFINED", "typeId": t, "label": "Primary" if t == types[1] else None}
                    for t in sorted(ids)]}
                for other, ids in held.items() if portal.find(to, "", other) is not None
            ]  # fmt: skip
            (found.append({"from": {"id": id_}, "to": told}) if told else missing.append(id_))
        context = {"fromObjectId": missing}
        none = {"status": "error", "category": "OBJECT_NOT_FOUND", "context": context,
                "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND", "message": "none found"}  # fmt: skip
        return batch(found, [none] if missing else [])

    def create_links(self, portal: Portal, request: Request, body: Any) -> Response:
        kind, to = ends_of(request)
        done = []
        for each in inputs_of(body):
            id_, other = str(each["from"]["id"]), str(each["to"]["id"])
            for at, which in ((kind, id_), (to, other)):
                if portal.find(at, "", which) is None:
                    raise Refused(400, "VALIDATION_ERROR", f"{at} {which} does not exist")
            portal.link(kind, id_, to, other, {int(t["associationTypeId"]) for t in each["types"]})
            done.append({"fromObjectTypeId": kind, "fromObjectId": int(id_), "toObjectTypeId": to,
                         "toObjectId": int(other), "labels": []})  # fmt: skip
        return batch(done, [], status=201)

    def archive_links(self, portal: Portal, request: Request, body: Any) -> Response:
        kind, to = ends_of(request)
        for each in inputs_of(body):
            for other in each["to"]:
                portal.unlink(kind, str(each["from"]["id"]), to, str(other["id"]))
        return Response(status_code=204)

    # -- what the objects are made of

    def get_property(self, portal: Portal, request: Request, _: Any) -> Response:
        kind, name = kind_of(request), request.path_params["name"]
        if name not in portal.properties[kind]:
            raise Refused(404, "OBJECT_NOT_FOUND", f"Property {name} does not exist")
        return JSONResponse(described(portal, kind, name))

    def create_property(self, portal: Portal, request: Request, body: Any) -> Response:
        kind, name = kind_of(request), body["name"]
        if name in portal.properties[kind]:
            raise Refused(
                409, "OBJECT_ALREADY_EXISTS", f"A property named '{name}' already exists."
            )
        portal.properties[kind].add(name)
        if body.get("hasUniqueValue"):
            portal.unique[kind].add(name)
        return JSONResponse(described(portal, kind, name), 201)

    def pipelines(self, _portal: Portal, _request: Request, _: Any) -> Response:
        times = {"createdAt": iso(0), "updatedAt": iso(0), "archived": False}
        stages = [
            {"id": id_, "label": id_.title(), "displayOrder": order, "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT",
             "metadata": {"probability": p, "isClosed": str(id_.startswith("closed")).lower()}, **times}
            for order, (id_, p) in enumerate(STAGES.items())
        ]  # fmt: skip
        pipeline = {
            "id": "default",
            "label": "Sales Pipeline",
            "displayOrder": 0,
            "stages": stages,
            **times,
        }
        return JSONResponse({"results": [pipeline]})

    # -- OAuth

    async def authorize(self, request: Request) -> Response:
        asked = request.query_params
        return RedirectResponse(
            f"{asked['redirect_uri']}?code=code.{asked['client_id']}&state={asked.get('state', '')}"
        )

    async def token(self, request: Request) -> Response:
        form = await request.form()
        told = str(form.get("refresh_token") or form.get("code") or "")
        name = told.partition(".")[2]
        if not name or "revoked" in told or not form.get("client_secret"):
            return JSONResponse(
                {"status": "BAD_REFRESH_TOKEN", "message": "missing or unknown refresh token"}, 400
            )
        self.generations[name] += 1
        tokens = {
            "access_token": f"{name}.{self.generations[name]}",
            "refresh_token": f"refresh.{name}",
        }
        return JSONResponse({**tokens, "token_type": "bearer", "expires_in": 1800})

    async def about_token(self, request: Request) -> Response:
        token = request.path_params["token"]
        portal = self.portal(token.partition(".")[0])
        told = {"token": token, "user": "ada@example.com", "hub_domain": "example.com", "scopes": ["oauth"],
                "hub_id": portal.id, "app_id": 7, "expires_in": 1800, "user_id": 9, "token_type": "access"}  # fmt: skip
        return JSONResponse(told)

    # -- the emulator's own

    async def set_faults(self, request: Request) -> Response:
        """Take `{"faults": {"search": [429, "drop_after", null]}, "hidden": [ids], "per_10s": 100, …}`."""
        portal, told = self.of(request), await request.json()
        assert portal is not None
        portal.faults = {name: deque(faults) for name, faults in told.pop("faults", {}).items()}
        portal.hidden = set(told.pop("hidden", []))
        for name, value in told.items():
            setattr(portal, name, value)
        return JSONResponse({})

    async def fill(self, request: Request) -> Response:
        """Make `{"kind", "records": [properties], "modified": ms or null}`; returns their ids."""
        portal, told = self.of(request), await request.json()
        assert portal is not None
        ids = []
        for values in told["records"]:
            now = told.get("modified") or portal.now()
            record = Record(str(next(portal.ids)), now, now, portal.checked(told["kind"], values))
            portal.of(told["kind"])[record.id] = record
            portal.index(told["kind"], record)
            ids.append(record.id)
        return JSONResponse({"ids": ids})

    async def show_calls(self, request: Request) -> Response:
        portal = self.of(request)
        assert portal is not None
        return JSONResponse({"calls": sum(portal.calls.values())})

    async def state(self, request: Request) -> Response:
        portal = self.of(request)
        assert portal is not None
        records = {
            kind: {r.id: {**r.properties, "archived": r.archived is not None} for r in of.values()}
            for kind, of in portal.records.items()
        }
        links = [[kind, id_, to, {o: sorted(t) for o, t in held.items()}]
                 for (kind, id_, to), held in portal.links.items() if held]  # fmt: skip
        return JSONResponse(
            {"portal": portal.id, "records": records, "links": links, "calls": portal.calls}
        )


def kind_of(request: Request) -> str:
    return known(request.path_params["kind"])


def ends_of(request: Request) -> tuple[str, str]:
    return known(request.path_params["kind"]), known(request.path_params["to"])


def known(name: str) -> str:
    kind = SINGULAR.get(name, name)
    if kind not in PROPERTIES:
        raise Refused(400, "VALIDATION_ERROR", f"Unable to infer object type from: {name}")
    return kind


def inputs_of(body: Any, most: int = MOST_INPUTS) -> list[Any]:
    inputs: list[Any] = body["inputs"]
    if len(inputs) > most:
        raise Refused(400, "VALIDATION_ERROR", f"The batch size is limited to {most}")
    return inputs


def meets(portal: Portal, kind: str, record: Record, told: Any) -> bool:
    name, operator = told["propertyName"], told["operator"]
    if name not in portal.properties[kind]:
        raise Refused(400, "VALIDATION_ERROR", f"property {name} does not exist")
    value = value_of(record, name)
    if operator in {"HAS_PROPERTY", "NOT_HAS_PROPERTY"}:
        return bool((value is not None) == (operator == "HAS_PROPERTY"))
    if value is None:
        return False
    if operator == "IN":
        return bool(value in told["values"])
    mine, other = comparable(value), comparable(str(told["value"]))
    tests: dict[str, bool] = {
        "EQ": mine == other,
        "GT": mine > other,
        "GTE": mine >= other,
        "LT": mine < other,
        "LTE": mine <= other,
    }
    return tests[str(operator)]


def value_of(record: Record, name: str) -> str | None:
    match name:
        case "hs_object_id":
            return record.id
        case "hs_lastmodifieddate" | "lastmodifieddate":
            return str(record.modified)
        case _:
            return record.properties.get(name)


def comparable(value: str | None) -> tuple[int, float, str]:
    """Return what sorts numbers, times and texts alike, nothing first."""
    if value is None:
        return (0, 0.0, "")
    try:
        return (1, ms_of(value), "")
    except ValueError:
        return (2, 0.0, value)


def not_found(kind: str, ids: list[str]) -> dict[str, Any]:
    return {"status": "error", "category": "OBJECT_NOT_FOUND", "context": {"ids": ids},
            "message": f"Could not get some {kind.upper()} objects, they may be deleted or not exist."}  # fmt: skip


def batch(results: list[Any], errors: list[Any], status: int = 200) -> Response:
    times = {"requestedAt": iso(0), "startedAt": iso(0), "completedAt": iso(0)}
    told = {"status": "COMPLETE", "results": results, **times}
    if errors:
        return JSONResponse({**told, "numErrors": len(errors), "errors": errors}, 207)
    return JSONResponse(told, status)


def described(portal: Portal, kind: str, name: str) -> dict[str, Any]:
    return {"name": name, "label": name, "type": "string", "fieldType": "text", "groupName": f"{kind}information",
            "description": "", "options": [], "hasUniqueValue": name in portal.unique[kind]}  # fmt: skip


class _Dropped(Response):
    """Cuts the connection instead of answering."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]}
        )
        raise ConnectionAbortedError


def drop() -> Response:
    return _Dropped()


def serve(port: int) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", port))
        listening.listen(128)
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        config = uvicorn.Config(HubSpot().app(), log_level="critical", lifespan="off")
        asyncio.run(uvicorn.Server(config).serve([listening]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    serve(parser.parse_args().port)
