"""The verified caller, the same for a fleet key, an internal token and an OAuth token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CredentialKind = Literal["key", "internal", "oauth"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. Nothing in it is secret; the credential itself is not kept.

    Attributes:
        subject: stable name of the caller, such as `key:ab12cd34` or an OAuth `sub`.
        tenant: slug of the tenant whose data the caller may touch.
        roles: names the policy knows; unknown names grant nothing.
        scopes: upper bound that the credential itself sets, whatever the roles grant; None for no bound.
        kind: the credential that proved the caller.
    """

    subject: str
    tenant: str
    roles: frozenset[str]
    kind: CredentialKind
    scopes: frozenset[str] | None = None
