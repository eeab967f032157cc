"""Single headers of an ASGI request, found by one look: each call asks for a dozen; and headers for its answer."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope

_FOUND, _TOLD = "fleet.headers", "fleet.told"
_NOTHING: tuple[None, dict[bytes, bytes]] = None, {}


def header(scope: Scope, name: bytes) -> str:
    """Return the first value of a header, empty when there is none.

    Args:
        scope: of an HTTP request.
        name: in lower case, as ASGI has all names.
    """
    return first_values(scope).get(name, b"").decode("latin-1")


def first_values(scope: Scope) -> Mapping[bytes, bytes]:
    """Return the first value of each header by its name in lower case."""
    headers = scope["headers"]
    known, values = scope.get(_FOUND, _NOTHING)
    # A layer may have given the request other headers: what belongs to those before says nothing about it.
    if known is not headers:
        values = dict(reversed(headers))
        scope[_FOUND] = headers, values
    found: dict[bytes, bytes] = values
    return found


def told_besides(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the headers that the answer to this request gets besides its own; a layer may add to them."""
    told: list[tuple[bytes, bytes]] = scope.setdefault(_TOLD, [])
    return told


def is_repeated(scope: Scope, prefix: bytes) -> bool:
    """Return whether a name that begins so comes twice: two readers might believe two different things."""
    if len(first_values(scope)) == len(scope["headers"]):
        return False
    names = [name for name, _ in scope["headers"] if name.startswith(prefix)]
    return len({*names}) < len(names)
