"""`/approve` and `/approve/{id}`: a page for people, JSON for `fleet approve`.

A program sends `Accept: application/json` and its credential as bearer. A person types the credential into the form;
it is checked, shown nowhere, kept nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet_common.approvals import Approvals, Approver, Request, Verdict
from fleet_common.approvals.desk import Desk
from fleet_common.audit import AuditEvent, AuditLog
from fleet_common.audit.events import Decision
from fleet_common.auth import Principal
from fleet_common.errors import (
    Disabled,
    FleetError,
    InvalidInput,
    NotConfigured,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    Unauthenticated,
)
from fleet_common.logs import request_facts
from fleet_common.policy import PolicyFile
from fleet_common.switches import Switches
from fleet_common.tasks.caller import TaskCaller
from fleet_gateway.approvals.page import decided_page, refusal_page, request_page, sign_in_page
from fleet_gateway.approvals.tickets import Tickets

_MAX_BYTES = 16 * 1024
_VERDICTS: dict[str, Verdict] = {"approved": "approved", "denied": "denied"}

Verify = Callable[[str], Awaitable[Principal | None]]
"""Returns the caller that a credential proves, or None."""
Recall = Callable[[TaskCaller], Awaitable[Principal]]
"""Returns a caller seen before with the roles it has now: none if its credential was revoked."""


@dataclass(frozen=True, slots=True)
class ApprovalRoutes:
    """The routes, and what they stand on."""

    approvals: Approvals
    policy: PolicyFile
    audit: AuditLog
    switches: Switches
    verify: Verify
    recall: Recall

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/approve", self._list, methods=["GET"]),
            Route("/approve/{id}", self._one, methods=["GET", "POST"]),
        ]

    async def _list(self, http: HttpRequest) -> Response:
        try:
            approver = self._approver(await self._proven(_bearer(http)))
            waiting = await self._desk().waiting(approver.tenant)
        except FleetError as error:
            return _json_error(error)
        return JSONResponse({"approvals": [_facts(request) for request in waiting]})

    async def _one(self, http: HttpRequest) -> Response:
        if "application/json" in http.headers.get("accept", ""):
            try:
                return await self._answer_program(http)
            except FleetError as error:
                return _json_error(error)
        try:
            return await self._answer_person(http)
        except Unauthenticated:
            return sign_in_page("This opens nothing. Check the key and try again.", status=401)
        except FleetError as error:
            return refusal_page(error.message, status=error.http_status)

    async def _answer_program(self, http: HttpRequest) -> Response:
        approver = self._approver(await self._proven(_bearer(http)))
        request = await self._found(approver, http.path_params["id"])
        if http.method == "GET":
            return JSONResponse(_facts(request))
        told = _json(await _body(http))
        verdict = await self._decide(approver, request, told.get("nonce"), told.get("verdict"))
        return JSONResponse({"verdict": verdict})

    async def _answer_person(self, http: HttpRequest) -> Response:
        if http.method == "GET":
            return sign_in_page()
        form = _form(await _body(http))
        id_ = http.path_params["id"]
        if "verdict" in form:
            seen = self._tickets().read(form.get("ticket", ""), id_)
            if seen is None:
                return sign_in_page("Too much time has passed. Say again who you are.", status=401)
            caller, nonce = seen
            approver = self._approver(await self.recall(caller))
            request = await self._found(approver, id_)
            return decided_page(await self._decide(approver, request, nonce, form["verdict"]))
        principal = await self._proven(form.get("key", ""))
        approver = self._approver(principal)
        request = await self._found(approver, id_)
        ticket = self._tickets().issue(principal, request)
        return request_page(request, ticket, subject=approver.subject)

    async def _proven(self, credential: str) -> Principal:
        principal = await self.verify(credential) if credential else None
        if principal is None:
            raise Unauthenticated("approving needs a valid fleet key or access token")
        return principal

    def _approver(self, principal: Principal) -> Approver:
        try:
            self.switches.check(principal)
            return Approver.of(principal, self.policy.current)
        except (Disabled, PermissionDenied) as error:
            who = (principal.tenant, principal.subject)
            self.audit.append(_event("fleet_approve", "deny", error.code, error.message, who))
            raise

    async def _found(self, approver: Approver, id_: str) -> Request:
        request = await self._desk().find(approver.tenant, id_)
        if request is None:
            raise NotFound("approval", id_[:64], hint="It was decided or used, or it has expired")
        return request

    async def _decide(
        self, approver: Approver, request: Request, nonce: object, verdict: object
    ) -> Verdict:
        chosen = _VERDICTS.get(str(verdict))
        if chosen is None:
            raise InvalidInput("the verdict is `approved` or `denied`")
        if nonce != request.nonce:
            raise NotFound("approval", request.id, hint="Look at it again: it was asked for anew")
        # The intent is durable first, so that no approval is ever used that nobody gave on record.
        await self.audit.commit(_decision(request, approver, chosen, "started"))
        await self._desk().decide(request, approver, chosen)
        self.audit.append(_decision(request, approver, chosen, "ok"))
        return chosen

    def _desk(self) -> Desk:
        if self.approvals.desk is None:
            raise NotConfigured("this gateway has no Redis, so no approvals wait here")
        return self.approvals.desk

    def _tickets(self) -> Tickets:
        return Tickets(self.approvals.key)


def _decision(request: Request, approver: Approver, verdict: Verdict, outcome: str) -> AuditEvent:
    decision: Literal["approve", "reject"] = "approve" if verdict == "approved" else "reject"
    rule = f"approval {request.id} for {request.subject}"
    who = (approver.tenant, approver.subject)
    return _event(request.tool, decision, outcome, rule, who)


def _event(
    target: str, decision: Decision, outcome: str, rule: str, who: tuple[str, str]
) -> AuditEvent:
    bound = request_facts()
    return AuditEvent(
        action="tool",
        target=target,
        decision=decision,
        outcome=outcome,
        rule=rule,
        tenant=who[0],
        subject=who[1],
        request_id=bound.get("request_id"),
        trace_id=bound.get("trace_id"),
    )


def _bearer(http: HttpRequest) -> str:
    kind, _, credential = http.headers.get("authorization", "").partition(" ")
    return credential.strip() if kind.lower() == "bearer" else ""


async def _body(http: HttpRequest) -> bytes:
    body = b""
    async for chunk in http.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise PayloadTooLarge("the form is larger than any form of ours")
    return body


def _form(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qs(body.decode(), max_num_fields=8)
    except ValueError as exc:
        raise InvalidInput("this is no form of ours") from exc
    return {name: values[-1] for name, values in fields.items()}


def _json(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput("the body is no JSON") from exc
    if not isinstance(told, dict):
        raise InvalidInput("the body is no JSON object")
    return told


def _facts(request: Request) -> dict[str, Any]:
    return {
        "id": request.id,
        "nonce": request.nonce,
        "lines": list(request.lines),
        "tool": request.tool,
        "subject": request.subject,
        "tenant": request.tenant,
        "second_person": request.second_person,
        "expires_at": request.expires_at.isoformat(),
    }


def _json_error(error: FleetError) -> JSONResponse:
    return JSONResponse({"error": error.to_dict()}, status_code=error.http_status)
