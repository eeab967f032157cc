"""Single headers of an ASGI request, found by one look: each call asks for a dozen."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope

_FOUND = "fleet.headers"


def header(scope: Scope, name: bytes) -> str:
    """Return the first value of a header, empty when there is none.

    Args:
        scope: of an HTTP request.
        name: in lower case, as ASGI has all names.
    """
    return str(first_values(scope).get(name, b""), "latin-1")


def first_values(scope: Scope) -> Mapping[bytes, bytes]:
    """Return the first value of each header by its name in lower case."""
    headers = scope["headers"]
    found = scope.get(_FOUND)
    # A layer may have given the request other headers: what belongs to those before says nothing about it.
    if found is None or found[0] is not headers:
        found = scope[_FOUND] = headers, dict(reversed(headers))
    values: dict[bytes, bytes] = found[1]
    return values


def is_repeated(scope: Scope, prefix: bytes) -> bool:
    """Return whether a name that begins so comes twice: two readers might believe two different things."""
    if len(first_values(scope)) == len(scope["headers"]):
        return False
    names = [name for name, _ in scope["headers"] if name.startswith(prefix)]
    return len({*names}) < len(names)
