"""Answers of providers, read or refused in the fleet's words; their own stay out, for they may quote what was sent."""

from __future__ import annotations

from typing import Any

import httpx

from fleet_common.errors import (
    FleetError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    RateLimited,
    Unavailable,
    UpstreamFailed,
)
from fleet_common.http.retry import retry_after_s
from fleet_data.connectors.errors import ConsentWithdrawn

_BUSY_S = 10.0


def told(reply: httpx.Response, provider: str) -> dict[str, Any]:
    """Return the JSON object of a success.

    Raises:
        FleetError: it is none.
    """
    if not reply.is_success:
        raise refusal(reply, provider)
    try:
        facts = reply.json()
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise UpstreamFailed(f"{provider} answered with something else than JSON")
    return facts


def refusal(reply: httpx.Response, provider: str) -> FleetError:
    """Return the error for a status that is no success."""
    status, wait_s = reply.status_code, retry_after_s(reply)
    if status == 429:
        return RateLimited(f"{provider} wants fewer calls", retry_after_s=wait_s or _BUSY_S)
    if status >= 500:
        return Unavailable(provider, retry_after_s=wait_s)
    if status == 401:
        return ConsentWithdrawn(provider)
    if status == 403:
        return PermissionDenied(f"the connected {provider} account may not do this")
    if status == 404:
        return NotFound(f"{provider} object", "of this id")
    return InvalidInput(f"{provider} refused this with {status}")
