"""Tickets: between two pages, what says who looked at what.

A decision by form needs the ticket of the page that showed the request, and that page needs a credential. There is
no cookie, so another site has nothing to ride on.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable

from fleet_common.approvals import Approver, Request

_LIFE_S = 300


class Tickets:
    """Issues and reads tickets with one key."""

    def __init__(self, key: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._key = hmac.digest(key, b"fleet/approvals/ticket/v1", hashlib.sha256)
        self._now = now

    def issue(self, approver: Approver, request: Request) -> str:
        """Return the ticket with which `approver` may decide on exactly `request`, within five minutes."""
        told = [approver.tenant, approver.subject, request.id, request.nonce]
        head = base64.urlsafe_b64encode(json.dumps([int(self._now()) + _LIFE_S, *told]).encode())
        return f"{head.decode()}.{self._mac(head)}"

    def read(self, ticket: str, id_: str) -> tuple[Approver, str] | None:
        """Return who may decide on the request with this id, and its nonce; None for a ticket that is not good."""
        head, _, mac = ticket.encode("utf-8", "replace").rpartition(b".")
        if not hmac.compare_digest(mac, self._mac(head).encode()):
            return None
        expires, tenant, subject, shown, nonce = json.loads(base64.urlsafe_b64decode(head))
        if self._now() >= expires or shown != id_:
            return None
        return Approver(tenant, subject), nonce

    def _mac(self, head: bytes) -> str:
        return hmac.new(self._key, head, hashlib.sha256).hexdigest()
