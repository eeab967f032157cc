"""Tickets: between two pages, what says who looked at what.

A decision by form needs the ticket of the page that showed the request, and that page needs a credential. There is
no cookie, so another site has nothing to ride on. A ticket says who somebody was; whether they still may is asked again
when they decide.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable

from fleet_common.approvals import Request
from fleet_common.auth import Principal
from fleet_common.tasks.caller import TaskCaller

_LIFE_S = 300


class Tickets:
    """Issues and reads tickets with one key."""

    def __init__(self, key: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._key = hmac.digest(key, b"fleet/approvals/ticket/v2", hashlib.sha256)
        self._now = now

    def issue(self, principal: Principal, request: Request) -> str:
        """Return the ticket with which `principal` may decide on exactly `request`, within five minutes."""
        seen = TaskCaller(principal, self._now()).to_json().decode()
        head = base64.urlsafe_b64encode(json.dumps([request.id, request.nonce, seen]).encode())
        return f"{head.decode()}.{self._mac(head)}"

    def read(self, ticket: str, id_: str) -> tuple[TaskCaller, str] | None:
        """Return who looked at the request with this id and when, and its nonce; None for a ticket that is not good."""
        head, _, mac = ticket.encode("utf-8", "replace").rpartition(b".")
        if not hmac.compare_digest(mac, self._mac(head).encode()):
            return None
        shown, nonce, told = json.loads(base64.urlsafe_b64decode(head))
        seen = TaskCaller.of_json(told)
        if self._now() >= seen.asked_at + _LIFE_S or shown != id_:
            return None
        return seen, nonce

    def _mac(self, head: bytes) -> str:
        return hmac.new(self._key, head, hashlib.sha256).hexdigest()
