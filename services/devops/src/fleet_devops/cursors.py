"""Where a list goes on, as opaque text that begins with the service's name, so that a gateway can route it.

A cursor names a position, never a place: path, repository and namespace always come from the arguments of the
call that brings it, so a forged cursor reaches nothing that its caller could not ask for anyway.
"""

from __future__ import annotations

import base64
import hashlib
import json
from binascii import Error as Base64Error
from collections.abc import Mapping

from fleet_common.errors import InvalidInput

_PREFIX = "devops."


def encode(position: Mapping[str, str], question: object) -> str:
    """Return the cursor for `position` in the answer to `question` (anything with a stable repr)."""
    text = json.dumps([_digest(question), dict(position)], separators=(",", ":"))
    return _PREFIX + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str | None, question: object) -> dict[str, str]:
    """Return the position in `cursor`; no cursor is the start, an empty position.

    Raises:
        InvalidInput: it is not one of ours, or belongs to another question.
    """
    if cursor is None:
        return {}
    digest, position = _parse(cursor)
    if digest != _digest(question):
        raise InvalidInput("cursor belongs to another question: repeat the arguments it came from")
    return position


def _parse(cursor: str) -> tuple[str, dict[str, str]]:
    body = cursor.removeprefix(_PREFIX)
    try:
        digest, position = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return str(digest), {str(key): str(value) for key, value in position.items()}
    except (Base64Error, ValueError, TypeError, AttributeError):
        raise InvalidInput("cursor is not a next_cursor of this service") from None


def _digest(question: object) -> str:
    return hashlib.sha256(repr(question).encode()).hexdigest()[:16]
