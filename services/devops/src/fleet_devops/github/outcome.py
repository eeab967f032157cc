"""What a response of GitHub means, and the error it becomes.

The secondary limit comes in three shapes: 429, 403 with Retry-After, and a bare 403 whose body says so
(hub4j/github-api #2009, #2267). The primary limit is a 403 or 429 with no requests remaining.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

import httpx
from pydantic_core import from_json

from fleet_common.errors import (
    Conflict,
    FleetError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    Unavailable,
    UpstreamFailed,
)
from fleet_common.http.retry import retry_after_s
from fleet_devops.errors import CredentialRejected, GitHubLimited
from fleet_devops.text import clip, visible

_SECONDARY = re.compile(rb"secondary rate|abuse detection", re.IGNORECASE)
_DEFAULT_WAIT_S = 60.0  # GitHub's advice when a secondary limit names no time
_LONGEST_WAIT_S = 3600.0  # a primary window


class Outcome(StrEnum):
    """The ways a GitHub request ends."""

    OK = "ok"
    NOT_MODIFIED = "not_modified"
    MOVED = "moved"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    VALIDATION = "validation"
    CONFLICT = "conflict"
    PRIMARY_LIMITED = "primary_limited"
    SECONDARY_LIMITED = "secondary_limited"
    TRANSIENT = "transient"


_BY_STATUS = {
    304: Outcome.NOT_MODIFIED,
    301: Outcome.MOVED,
    302: Outcome.MOVED,
    307: Outcome.MOVED,
    308: Outcome.MOVED,
    401: Outcome.AUTH,
    403: Outcome.FORBIDDEN,
    404: Outcome.NOT_FOUND,
    408: Outcome.TRANSIENT,
    409: Outcome.CONFLICT,
    410: Outcome.NOT_FOUND,
    429: Outcome.SECONDARY_LIMITED,
    451: Outcome.FORBIDDEN,
}


def classify(response: httpx.Response) -> Outcome:
    """Return what a read response means."""
    status = response.status_code
    if status in (403, 429) and (limit := _limit(response)):
        return limit
    if 200 <= status < 300:
        return Outcome.OK
    if status >= 500:
        return Outcome.TRANSIENT
    return _BY_STATUS.get(status, Outcome.VALIDATION)


def _limit(response: httpx.Response) -> Outcome | None:
    if response.headers.get("x-ratelimit-remaining") == "0":
        return Outcome.PRIMARY_LIMITED
    if "retry-after" in response.headers or _SECONDARY.search(response.content):
        return Outcome.SECONDARY_LIMITED
    return None


def error_for(outcome: Outcome, response: httpx.Response, *, kind: str, key: str) -> FleetError:
    """Return the error that `outcome` becomes when `kind` `key` was asked for."""
    if outcome is Outcome.PRIMARY_LIMITED:
        return limited("primary", response)
    if outcome is Outcome.SECONDARY_LIMITED:
        return limited("secondary", response)
    if outcome is Outcome.TRANSIENT:
        return Unavailable("GitHub", retry_after_s=retry_after_s(response) or 1.0)
    said = _message(response)
    errors: dict[Outcome, FleetError] = {
        Outcome.NOT_FOUND: NotFound(kind, key),
        Outcome.AUTH: CredentialRejected("GitHub", "FLEET_DEVOPS_GITHUB_TOKEN"),
        Outcome.FORBIDDEN: PermissionDenied(f"GitHub lets this service not read {kind} {key}"),
        Outcome.CONFLICT: Conflict(f"GitHub cannot read {kind} {key} now: {said}"),
        Outcome.VALIDATION: InvalidInput(f"GitHub refuses the request: {said}"),
    }
    unexpected = UpstreamFailed(f"GitHub answered {kind} {key} with {response.status_code}")
    return errors.get(outcome, unexpected)


def limited(scope: Literal["primary", "secondary"], response: httpx.Response) -> GitHubLimited:
    """Return the error that says how long GitHub wants us to stay away."""
    now = datetime.now(UTC)
    reset_at = _reset_at(response) if scope == "primary" else None
    wait_s = retry_after_s(response)
    if wait_s is None and reset_at is not None:
        wait_s = (reset_at - now).total_seconds() + 1
    if wait_s is None:
        wait_s = _DEFAULT_WAIT_S
    bounded = round(min(max(wait_s, 1.0), _LONGEST_WAIT_S), 1)
    return GitHubLimited(scope, retry_after_s=bounded, reset_at=reset_at)


def _reset_at(response: httpx.Response) -> datetime | None:
    text = response.headers.get("x-ratelimit-reset", "")
    return datetime.fromtimestamp(int(text), UTC) if text.isdecimal() else None


def _message(response: httpx.Response) -> str:
    try:
        message = from_json(response.content).get("message")
    except (ValueError, AttributeError):
        message = None
    return clip(visible(str(message)), 200) if message else f"status {response.status_code}"
