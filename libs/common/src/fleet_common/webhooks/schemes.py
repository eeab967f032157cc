"""How each provider signs: HMAC-SHA256 over the raw body, and what else differs.

Where a timestamp is signed, it must be within five minutes of ours. Every candidate is compared in constant time,
and all of them, so that the time tells neither how much of a signature was right nor which secret is in use.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fleet_common.errors import InvalidInput, Unauthenticated
from fleet_common.webhooks.models import Provider, SignedRequest, parsed

TOLERANCE_S = 300.0
_SECONDS = re.compile(r"[0-9]{1,12}")
_MILLISECONDS = re.compile(r"[0-9]{1,15}")
# What HubSpot decodes before it signs ("Validating requests", v3).
_DECODED = {
    "%3A": ":",
    "%2F": "/",
    "%3F": "?",
    "%40": "@",
    "%21": "!",
    "%24": "$",
    "%27": "'",
    "%28": "(",
    "%29": ")",
    "%2A": "*",
    "%2C": ",",
    "%3B": ";",
}
_ENCODED = re.compile("|".join(_DECODED), re.IGNORECASE)


class SignatureRefused(Unauthenticated):
    """Raised when a delivery is not signed with one of our secrets, or not recently; which, nobody is told."""

    def __init__(self) -> None:
        super().__init__("the signature is missing, wrong or too old")


@dataclass(frozen=True, slots=True)
class Scheme:
    """One provider's way.

    Attributes:
        check: returns whether the request is signed with one of the secrets, as of a time in seconds.
        delivery_id: returns what a repeat has in common with the first delivery; called once the signature is right.
    """

    check: Callable[[SignedRequest, Sequence[bytes], float], bool]
    delivery_id: Callable[[SignedRequest], str | None]

    def verify(self, request: SignedRequest, secrets: Sequence[bytes], now: float) -> str | None:
        """Return the delivery's id.

        Raises:
            SignatureRefused: see there.
            InvalidInput: it is signed, and yet not what the provider sends.
        """
        if not self.check(request, secrets, now):
            raise SignatureRefused
        return self.delivery_id(request)


def _github(request: SignedRequest, secrets: Sequence[bytes], _now: float) -> bool:
    given = request.headers.get("x-hub-signature-256", "")
    return _matches([given], [f"sha256={_hex(secret, request.body)}" for secret in secrets])


def _stripe(request: SignedRequest, secrets: Sequence[bytes], now: float) -> bool:
    pairs = [
        part.strip().partition("=")
        for part in request.headers.get("stripe-signature", "").split(",")[:16]
    ]
    times = [value for name, _, value in pairs if name == "t"]
    if len(times) != 1 or not _is_recent(times[0], now):
        return False
    signed = f"{times[0]}.".encode() + request.body
    given = [value for name, _, value in pairs if name == "v1"]
    return _matches(given, [_hex(secret, signed) for secret in secrets])


def _slack(request: SignedRequest, secrets: Sequence[bytes], now: float) -> bool:
    time = request.headers.get("x-slack-request-timestamp", "")
    if not _is_recent(time, now):
        return False
    signed = f"v0:{time}:".encode() + request.body
    given = request.headers.get("x-slack-signature", "")
    return _matches([given], [f"v0={_hex(secret, signed)}" for secret in secrets])


def _hubspot(request: SignedRequest, secrets: Sequence[bytes], now: float) -> bool:
    time = request.headers.get("x-hubspot-request-timestamp", "")
    if not _MILLISECONDS.fullmatch(time) or abs(now - int(time) / 1000) > TOLERANCE_S:
        return False
    url = _ENCODED.sub(lambda found: _DECODED[found[0].upper()], request.url)
    signed = f"{request.method}{url}".encode() + request.body + time.encode()
    given = request.headers.get("x-hubspot-signature-v3", "")
    return _matches(
        [given], [base64.b64encode(_hmac(secret, signed)).decode() for secret in secrets]
    )


def _is_recent(seconds: str, now: float) -> bool:
    return bool(_SECONDS.fullmatch(seconds)) and abs(now - int(seconds)) <= TOLERANCE_S


def _matches(given: Iterable[str], expected: Sequence[str]) -> bool:
    equal = [
        hmac.compare_digest(one.encode(), other.encode()) for one in given for other in expected
    ]
    return any(equal)  # over a list: all were compared


def _hex(secret: bytes, signed: bytes) -> str:
    return _hmac(secret, signed).hex()


def _hmac(secret: bytes, signed: bytes) -> bytes:
    return hmac.digest(secret, signed, hashlib.sha256)


def _named(field: str) -> Callable[[SignedRequest], str | None]:
    """Return a reader of a string field of a JSON body; other bodies, such as Slack's forms, have no id."""

    def read(request: SignedRequest) -> str | None:
        try:
            message = parsed(request.body)
        except InvalidInput:
            return None
        value = message.get(field) if isinstance(message, dict) else None
        return value if isinstance(value, str) else None

    return read


def _events(request: SignedRequest) -> str:
    """Return what HubSpot's events have in common with their repeats, which only count the attempts."""
    events = parsed(request.body)
    rows = events if isinstance(events, list) else [events]
    return "\n".join(sorted(_without_attempt(row) for row in rows))


def _without_attempt(event: Any) -> str:
    if not isinstance(event, dict):
        raise InvalidInput("the body holds no events")
    return repr(sorted((k, v) for k, v in event.items() if k != "attemptNumber"))


PROVIDERS: dict[Provider, Scheme] = {
    # GitHub signs no time: what keeps a recorded delivery from being sent again is that its body is remembered.
    "github": Scheme(_github, lambda request: request.headers.get("x-github-delivery")),
    "stripe": Scheme(_stripe, _named("id")),
    "slack": Scheme(_slack, _named("event_id")),
    "hubspot": Scheme(_hubspot, _events),
}
