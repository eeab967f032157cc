"""Single headers of an ASGI request, found without making an object of all of them: each call looks for a dozen."""

from __future__ import annotations

from starlette.types import Scope


def header(scope: Scope, name: bytes) -> str:
    """Return the first value of a header, empty when there is none.

    Args:
        scope: of an HTTP request.
        name: in lower case, as ASGI has all names.
    """
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return ""
