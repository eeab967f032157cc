"""Headers that concern one connection only (RFC 9110 §7.6.1): no answer and no request takes them further."""

from __future__ import annotations

from collections.abc import Iterable

HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization"),
        *(b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
# What decides how a request is read, or who is said to have sent it. A client that could have one of these taken away
# would show the service another request than the gateway saw, or hide where it comes from.
_KEPT = (b"mcp-", b"fleet-", b"content-", b"x-forwarded-", b"x-real-ip", b"forwarded", b"via")
_PERSISTENCE = frozenset({b"keep-alive", b"close"})


def staying(always: frozenset[bytes], headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Return the names that go no further: those in `always`, and what `Connection` names besides.

    All names are in lower case.
    """
    named = always
    for name, value in headers:
        if name == b"connection" and value not in _PERSISTENCE:
            words = {word.strip().lower() for word in value.split(b",")}
            named |= {word for word in words if not word.startswith(_KEPT)}
    return named
