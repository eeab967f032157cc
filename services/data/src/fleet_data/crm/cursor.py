"""Cursors: where a page ended, signed, and good only for the same question of the same tenant."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json

from fleet_common.errors import InvalidInput
from fleet_data.crm.models import Position

_PREFIX = "data."
_MAC_BYTES = 12


class CursorSigner:
    """Signs cursors with a key derived from the service's secret."""

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), b"cursor", "sha256")

    def write(self, position: Position, *, question: str) -> str:
        """Return the cursor for the page after `position`; `question` is everything that must stay the same."""
        body = json.dumps([position.value, position.id], separators=(",", ":")).encode()
        return _PREFIX + base64.urlsafe_b64encode(self._mac(body, question) + body).decode().rstrip(
            "="
        )

    def read(self, cursor: str, *, question: str) -> Position:
        """Return the position in a cursor.

        Raises:
            InvalidInput: it is not ours, was changed, or belongs to another question.
        """
        try:
            raw = base64.urlsafe_b64decode(cursor.removeprefix(_PREFIX) + "==")
        except (binascii.Error, ValueError):
            raw = b""
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body, question)):
            raise InvalidInput(
                "cursor does not belong to this search",
                hint="Repeat the arguments of the call that returned it, or leave cursor out",
            )
        value, id_ = json.loads(body)
        return Position(value, id_)

    def _mac(self, body: bytes, question: str) -> bytes:
        told = hashlib.sha256(question.encode()).digest() + body
        return hmac.digest(self._key, told, "sha256")[:_MAC_BYTES]
