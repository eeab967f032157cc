"""What two calls must share to be the same call: a digest of their arguments that no order of keys changes."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest_of(value: Any) -> str:
    """Return the SHA-256, in hex, of `value` as canonical JSON; what JSON does not know counts by its text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
