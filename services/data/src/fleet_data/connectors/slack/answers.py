"""Slack's answers: a refusal comes with status 200 and `ok: false`."""

from __future__ import annotations

from typing import Any

import httpx

from fleet_common.errors import FleetError, InvalidInput, NotFound, PermissionDenied, RateLimited
from fleet_data.connectors import answers
from fleet_data.connectors.errors import ConsentWithdrawn, ScopeMissing

_GONE = {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"}
_NOT_IN = {"not_in_channel", "is_archived", "restricted_action"}
_BUSY_S = 30.0


def told(reply: httpx.Response) -> dict[str, Any]:
    """Return the answer of a success.

    Raises:
        FleetError: it is none.
    """
    facts = answers.told(reply, "slack")
    if facts.get("ok") is not True:
        raise _refusal(str(facts.get("error", "unknown_error")))
    return facts


def _refusal(code: str) -> FleetError:
    if code in _GONE:
        return ConsentWithdrawn("slack")
    if code == "missing_scope":
        return ScopeMissing("slack", ["chat:write"])
    if code in {"ratelimited", "rate_limited"}:
        return RateLimited("slack wants fewer calls", retry_after_s=_BUSY_S)
    if code == "channel_not_found":
        return NotFound("channel", "of this name", hint="Invite the bot to it, or use its id")
    if code in _NOT_IN:
        return PermissionDenied(f"the bot may not post there ({code})")
    # Slack's codes are words of its documentation, and none of ours.
    return InvalidInput(f"slack refused this: {code[:60]}")
