"""What two calls must share to be the same call: a digest of their arguments that no order of keys changes."""

from __future__ import annotations

import hashlib
import hmac
import json
from functools import lru_cache
from typing import Any

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str).encode


def digest_of(value: Any, key: bytes | None = None) -> str:
    """Return the SHA-256, in hex, of `value` as canonical JSON; what JSON does not know counts by its text.

    Canonical means: keys sorted, no spaces, ASCII. With a key it is the HMAC-SHA256 instead: arguments are often short
    and guessable (an address, a yes), and without the key whoever reads the digest could find them by trying.
    """
    return sha256_of(_canonical(value).encode(), key)


def sha256_of(data: bytes, key: bytes | None = None) -> str:
    """Return the SHA-256 of `data` in hex, or its HMAC-SHA256 when there is a key."""
    if key is None:
        return hashlib.sha256(data).hexdigest()
    mac = _keyed(key).copy()  # half the time of hmac.digest
    mac.update(data)
    return mac.hexdigest()


@lru_cache(maxsize=8)
def _keyed(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod="sha256")
