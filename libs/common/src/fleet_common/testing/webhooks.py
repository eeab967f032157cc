"""Signed deliveries for tests, made as the providers document it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
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


def hubspot_headers(
    body: bytes, secret: str, *, url: str, at_ms: int | None = None
) -> dict[str, str]:
    """Return the headers with which HubSpot would send `body` to `url`, now unless `at_ms` says when (v3)."""
    moment = str(int(time.time() * 1000) if at_ms is None else at_ms)
    digest = hmac.digest(
        secret.encode(), f"POST{url}".encode() + body + moment.encode(), hashlib.sha256
    )
    return {
        "content-type": "application/json",
        "x-hubspot-request-timestamp": moment,
        "x-hubspot-signature-v3": base64.b64encode(digest).decode(),
    }
