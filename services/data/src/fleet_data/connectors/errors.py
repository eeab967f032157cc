"""What can be wrong with an account, told so that somebody can do something about it.

NotConfigured
├── NotConnected        nobody connected one, or only for other people
├── ConsentWithdrawn    it was connected, and its provider takes our credential no more
└── Unreadable          no key of ours opens what is stored
NotFound
└── LinkUsedUp          the link of a connection was used, is too old, or not ours
PermissionDenied
├── ScopeMissing        whoever connected it did not allow this
└── ForeignOrigin       a request would carry the credential to somebody else
"""

from __future__ import annotations

from collections.abc import Iterable

from fleet_common.errors import NotConfigured, NotFound, PermissionDenied


class NotConnected(NotConfigured):
    """Raised when no account of the service is connected."""

    code = "not_connected"

    def __init__(self, provider: str) -> None:
        super().__init__(f"no {provider} account is connected", hint=_connect(provider))


class ConsentWithdrawn(NotConfigured):
    """Raised when the service no longer accepts the connected account's credential."""

    code = "consent_withdrawn"

    def __init__(self, provider: str) -> None:
        super().__init__(
            f"{provider} does not accept the connected account any more",
            hint=f"{_connect(provider)} again",
        )


class Unreadable(NotConfigured):
    """Raised when no key of the operator opens a stored credential."""

    def __init__(self) -> None:
        super().__init__(
            "the stored credential cannot be opened",
            hint="Put the key that sealed it back into FLEET_DATA_CREDENTIALS_KEYS, or connect the account again",
        )


class LinkUsedUp(NotFound):
    """Raised when the link of a connection leads nowhere (any more)."""

    def __init__(self) -> None:
        super().__init__(
            "link", "of this connection", hint="It was used, or its time is over: begin again"
        )


class ScopeMissing(PermissionDenied):
    """Raised when the connected account does not allow what the call needs."""

    code = "scope_missing"

    def __init__(self, provider: str, scopes: Iterable[str]) -> None:
        super().__init__(
            f"the connected {provider} account does not allow this: {' '.join(sorted(scopes))}",
            hint=f"{_connect(provider)} again and allow it",
        )


class ForeignOrigin(PermissionDenied):
    """Raised before a credential leaves for anybody but its own provider."""

    def __init__(self, provider: str) -> None:
        super().__init__(f"a {provider} credential goes to {provider} and nowhere else")


def _connect(provider: str) -> str:
    return f"An administrator runs `fleet connect-account {provider}`"
