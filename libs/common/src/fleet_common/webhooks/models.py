"""What arrives, what a handler gets, and what a service declares."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import SecretStr

from fleet_common.errors import InvalidInput

Provider = Literal["github", "stripe", "slack", "hubspot"]


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it came in, nothing of it believed yet.

    Attributes:
        url: where the provider sent it, as the provider writes it; some sign it.
        headers: names in lower case.
        body: the raw bytes; a signature is over these.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery whose signature is right.

    Attributes:
        id: the same for every repeat of this delivery; None where the provider gives none.
        headers: names in lower case. Only GitHub's are of use, and no provider signs them: believe the body.
    """

    provider: Provider
    id: str | None
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the parsed body.

        Raises:
            InvalidInput: it is not JSON.
        """
        return parsed(self.body)


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """One provider's deliveries, declared by the service that owns them.

    Attributes:
        provider: path and signature scheme.
        secrets: reads the secrets from the service's settings: one, or the old and the new while they are
            rotated. None at all turns the webhook off.
        handle: does the work with what `open_deps` yielded, within `timeout_s`; raises to be repeated. What it
            returns, if anything, is the JSON answer (Slack asks for one when it is set up).
        public_url: address that the provider was given, read from the settings; HubSpot signs it.
        max_bytes: largest body.
        timeout_s: time for the work; providers give up after 3 to 10 seconds.
    """

    provider: Provider
    # Any: settings and dependencies are the declaring service's own types.
    secrets: Callable[[Any], Sequence[SecretStr]]
    handle: Callable[[Delivery, Any], Awaitable[Mapping[str, Any] | None]]
    public_url: Callable[[Any], str | None] = lambda _settings: None
    max_bytes: int = 1024 * 1024
    timeout_s: float = 10.0


def parsed(body: bytes) -> Any:
    """Return the parsed JSON.

    Raises:
        InvalidInput: it is not JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput("the body is not JSON") from None
