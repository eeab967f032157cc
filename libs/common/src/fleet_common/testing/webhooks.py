"""Signed deliveries for tests, made as the providers document it."""

from __future__ import annotations

import hashlib
import hmac
from uuid import uuid4


def github_headers(
    body: bytes, secret: str, *, event: str = "push", delivery: str | None = None
) -> dict[str, str]:
    """Return the headers with which GitHub would send `body`; a new delivery unless one is named."""
    digest = hmac.digest(secret.encode(), body, hashlib.sha256).hex()
    return {
        "content-type": "application/json",
        "x-github-event": event,
        "x-github-delivery": delivery or str(uuid4()),
        "x-hub-signature-256": f"sha256={digest}",
    }
