"""Which path belongs to which service: one line each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Carried:
    """Requests that the gateway carries to a service, path and query unchanged.

    Attributes:
        path: pattern of the path, as Starlette writes it.
        service: the owner. Without such a service the path does not exist.
        needs_caller: only verified callers get through, and the service learns who they are from an internal
            token. Without it the service itself must know what to believe, such as a signed link.
        at_once: how many there may be at the same time; half of them of one tenant or, without a caller, address.
    """

    path: str
    service: str
    needs_caller: bool = True
    at_once: int = 64


CARRIED = (
    Carried("/uploads/{id}", "data", needs_caller=False),
    Carried("/exports/{job}", "data", needs_caller=False),
    Carried("/unsubscribe/{token}", "data", needs_caller=False),
    Carried("/oauth/{provider}/callback", "data", needs_caller=False),
    Carried("/v1/{path:path}", "aiml", at_once=256),
    Carried("/voice/stream", "aiml"),
)
