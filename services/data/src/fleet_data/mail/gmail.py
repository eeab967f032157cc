"""Gmail by drafts: a draft can be sent once, so a draft that is gone was sent.

The id of the draft is recorded between making and sending it, with the mailbox that it is in. A process that finds it
sends that draft again and learns from a 404 that it had been sent. One that finds none looks for a draft with our
Message-ID: nothing was sent yet, because sending comes after recording.
Costs and limits: developers.google.com/gmail/api/reference/quota.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from uuid import UUID

import httpx

from fleet_common.errors import (
    InvalidInput,
    PermissionDenied,
    RateLimited,
    Unavailable,
    UpstreamFailed,
)
from fleet_common.http.retry import retry_after_s
from fleet_data.claims import Caller
from fleet_data.connectors.errors import ConsentWithdrawn
from fleet_data.connectors.google.provider import COMPOSE, READ
from fleet_data.connectors.models import Account
from fleet_data.mail.compose import compose, ids_of
from fleet_data.mail.mailer import Route
from fleet_data.mail.models import FoundMail, Mail, Outcome

_PROVIDER = "google"
_ROOT = "/gmail/v1/users/me"
_BUSY_S = 60.0  # quotas of Gmail are per minute
# "Resolve errors": these reasons of a 403 mean "later"; every other one means "never".
_LATER = {"rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "quotaExceeded"}
_SHOWN = ("From", "To", "Subject", "Date")
_ANSWERS = ("In-Reply-To", "References", "Auto-Submitted")


class Accounts(Protocol):
    """The accounts that tenants connected."""

    def session(
        self, provider: str, caller: Caller, *scopes: str
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """Yield a client that speaks for the account of the caller's tenant.

        Raises:
            NotConnected: it connected none.
        """

    async def account(self, provider: str, caller: Caller) -> Account:
        """Return that account.

        Raises:
            NotConnected: there is none.
        """


class GmailMailer:
    """The mailbox that a caller's tenant connected."""

    route: Route = "gmail"
    resumes = True

    def __init__(self, accounts: Accounts, caller: Caller) -> None:
        self._accounts = accounts
        self._caller = caller

    async def prepare(self, mail: Mail, *, again: bool) -> str:
        """Return the id and the mailbox of a draft with this mail, of an earlier attempt if that left one.

        Raises:
            InvalidInput: the mail cannot be written, or Gmail does not take it.
        """
        mailbox = await self._mailbox()
        if again and (found := await self._find_draft(mail.message_id)):
            return f"{found} {mailbox}"
        raw = base64.urlsafe_b64encode(compose(mail)).decode()
        reply = await self._ask("POST", "/drafts", json={"message": {"raw": raw}})
        return f"{_told(reply)['id']} {mailbox}"

    async def deliver(self, mail: Mail, ticket: str) -> Outcome:  # noqa: ARG002 - the draft has it all
        """Send the draft; one that is gone was sent by an earlier attempt, if this is still its mailbox."""
        draft, _, mailbox = ticket.partition(" ")
        try:
            reply = await self._ask("POST", "/drafts/send", json={"id": draft}, missing_ok=True)
        except InvalidInput as exc:
            return Outcome("bounced", exc.message)
        if reply.status_code == 404 and mailbox != await self._mailbox():
            return Outcome("unknown", "another mailbox was connected before it was sent")
        if reply.status_code == 404:
            return Outcome("sent", "its draft had been sent before")
        return Outcome("sent")

    async def discard(self, ticket: str) -> bool:
        """Delete the draft; False when it is gone."""
        reply = await self._ask("DELETE", f"/drafts/{ticket.partition(' ')[0]}", missing_ok=True)
        return reply.status_code != 404

    async def search(self, query: str, *, limit: int) -> Sequence[FoundMail]:
        """Return the newest mails that Gmail finds; `query` is what one types into its search box."""
        params = {"q": query, "maxResults": str(limit)}
        reply = await self._ask("GET", "/messages", scope=READ, params=params)
        listed = _told(reply).get("messages", [])
        return [await self._read(str(each["id"])) for each in listed[:limit]]

    async def answered(self, *, since: int) -> frozenset[UUID]:
        """Return the ids of our mails that people have answered since then, in seconds of the epoch."""
        params, found = {"q": f"-from:me after:{since}", "maxResults": "100"}, set[UUID]()
        while True:
            page = _told(await self._ask("GET", "/messages", scope=READ, params=params))
            for each in page.get("messages", []):
                _, headers = await self._headers(str(each["id"]), _ANSWERS)
                # What a machine sends by itself (RFC 3834) is no reply.
                if headers.get("auto-submitted", "no").startswith("no"):
                    found |= ids_of(" ".join(headers.values()))
            if (token := page.get("nextPageToken")) is None:
                return frozenset(found)
            params["pageToken"] = str(token)

    async def _headers(
        self, id_: str, names: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Return a message, and those of its headers by their names in small letters."""
        params = {"format": "metadata", "metadataHeaders": list(names)}
        message = _told(await self._ask("GET", f"/messages/{id_}", scope=READ, params=params))
        told = message.get("payload", {}).get("headers", [])
        return message, {str(each["name"]).lower(): str(each["value"]) for each in told}

    async def _read(self, id_: str) -> FoundMail:
        message, headers = await self._headers(id_, _SHOWN)
        sender, to, subject, date = (headers.get(name.lower(), "") for name in _SHOWN)
        snippet = str(message.get("snippet", ""))
        return FoundMail(id_, str(message["threadId"]), date, sender, to, subject, snippet)

    async def _find_draft(self, message_id: str) -> str | None:
        query = f"rfc822msgid:{message_id.strip('<>')}"
        found = _told(await self._ask("GET", "/drafts", params={"q": query})).get("drafts", [])
        return str(found[0]["id"]) if found else None

    async def _mailbox(self) -> str:
        return (await self._accounts.account(_PROVIDER, self._caller)).external_id

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        scope: str = COMPOSE,
        missing_ok: bool = False,
        **more: Any,
    ) -> httpx.Response:
        async with self._accounts.session(_PROVIDER, self._caller, scope) as http:
            reply = await http.request(method, _ROOT + path, **more)
        if reply.is_success or (missing_ok and reply.status_code == 404):
            return reply
        raise _failure(reply)


def _told(reply: httpx.Response) -> dict[str, Any]:
    try:
        told: dict[str, Any] = reply.json()
    except ValueError as exc:
        raise UpstreamFailed("Gmail's answer is not JSON") from exc
    return told


def _failure(reply: httpx.Response) -> Exception:
    """Return the error for a refusal; Gmail's own words stay out of it, they may quote the mail."""
    status, wait_s = reply.status_code, retry_after_s(reply)
    if status == 429 or (status == 403 and _reason(reply) in _LATER):
        return RateLimited("Gmail's quota is used up for now", retry_after_s=wait_s or _BUSY_S)
    if status == 401:
        return ConsentWithdrawn(_PROVIDER)
    if status == 403:
        return PermissionDenied("the connected Google account may not do this")
    if status >= 500:
        return Unavailable("gmail", retry_after_s=wait_s)
    return InvalidInput(f"Gmail refused the mail with {status}")


def _reason(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["error"]["errors"][0]["reason"])
    except (ValueError, LookupError, TypeError):
        return ""
