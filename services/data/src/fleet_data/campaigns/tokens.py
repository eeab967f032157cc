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
    """Signs and reads the last part of `/unsubscribe/{token}`.

    Args:
        secret: signs.
        before: signed earlier; what one of them signed is still believed.
    """

    def __init__(self, secret: str, *before: str) -> None:
        # Keys of their own: what signs claims and cursors must not be tried through a public page.
        self._keys = [
            hmac.new(each.encode(), b"unsubscribe", hashlib.sha256).digest()
            for each in (secret, *before)
        ]

    def sign(self, recipient: Recipient) -> str:
        """Return the token; characters that need no escaping in a URL."""
        told = recipient.id.bytes + recipient.tenant.encode()
        return base64.urlsafe_b64encode(_mac(self._keys[0], told) + told).rstrip(b"=").decode()

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
        if len(told) < 17 or not any(hmac.compare_digest(mac, _mac(k, told)) for k in self._keys):
            raise NotFound("unsubscribe link", "of this address")
        return Recipient(told[16:].decode(), UUID(bytes=told[:16]))


def _mac(key: bytes, told: bytes) -> bytes:
    return hmac.new(key, told, hashlib.sha256).digest()[:_MAC_BYTES]
