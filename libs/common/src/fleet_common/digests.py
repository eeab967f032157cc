"""What two calls must share to be the same call: a digest of their arguments that no order of keys changes."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str).encode


def digest_of(value: Any, key: bytes | None = None) -> str:
    """Return the SHA-256, in hex, of `value` as canonical JSON; what JSON does not know counts by its text.

    Canonical means: keys sorted, no spaces, ASCII. With a key it is the HMAC-SHA256 instead: arguments are often short
    and guessable (an address, a yes), and without the key whoever reads the digest could find them by trying.
    """
    text = _canonical(value).encode()
    if key is None:
        return hashlib.sha256(text).hexdigest()
    return hmac.digest(key, text, "sha256").hex()
