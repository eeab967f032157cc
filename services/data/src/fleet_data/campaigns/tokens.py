"""Links that end mail: signed, so that nobody unsubscribes another, and valid for ever, as mails are kept for years."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID

from fleet_common.errors import NotFound

_MAC_BYTES = 16


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a link is for."""

    tenant: str
    id: UUID


class UnsubscribeTokens:
    """Signs and reads the last part of `/unsubscribe/{token}`."""

    def __init__(self, secret: str) -> None:
        # A key of its own: what signs claims and cursors must not be tried through a public page.
        self._key = hmac.new(secret.encode(), b"unsubscribe", hashlib.sha256).digest()

    def sign(self, recipient: Recipient) -> str:
        """Return the token; characters that need no escaping in a URL."""
        told = recipient.id.bytes + recipient.tenant.encode()
        return base64.urlsafe_b64encode(self._mac(told) + told).rstrip(b"=").decode()

    def read(self, token: str) -> Recipient:
        """Return whom the token is for.

        Raises:
            NotFound: it is not one of ours.
        """
        try:
            raw = base64.urlsafe_b64decode(token[:400] + "=" * (-len(token[:400]) % 4))
        except ValueError:
            raw = b""
        mac, told = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if len(told) < 17 or not hmac.compare_digest(mac, self._mac(told)):
            raise NotFound("unsubscribe link", "of this address")
        return Recipient(told[16:].decode(), UUID(bytes=told[:16]))

    def _mac(self, told: bytes) -> bytes:
        return hmac.new(self._key, told, hashlib.sha256).digest()[:_MAC_BYTES]
