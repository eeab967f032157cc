"""What the router knows about one request."""

from __future__ import annotations

from typing import Any

from starlette.types import Scope

from fleet_common.mcp import envelope
from fleet_common.mcp.envelope import Envelope
from fleet_common.mcp.headers import first_values, is_repeated

LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
"""Methods whose answers are merged, and the key of the rows in their results."""
TASKS = frozenset({"tasks/get", "tasks/update", "tasks/cancel"})
"""Methods about a task; its id begins with the service that has it, as in `aiml.Zk3…`."""


def of_headers(scope: Scope) -> Envelope | None:
    """Return the envelope that a 2026-07-28 client put into its headers, None when the body must say it.

    Only such a client's headers may be believed: the services check them against the body, whereas for an
    older version an intermediary must not trust them (MCP 2026-07-28, "Standard headers"). Neither may headers that
    come twice: whoever is behind could believe the other one.
    """
    named = first_values(scope)
    if b"mcp-method" not in named or named.get(b"mcp-protocol-version", b"") < b"2026-07-28":
        return None
    return None if is_repeated(scope, b"mcp-") else envelope.of_headers(scope)


def method_in(message: Any) -> str:
    """Return the method of a parsed message, empty when there is none."""
    method = message.get("method") if isinstance(message, dict) else None
    return method if isinstance(method, str) else ""


def of_body(message: Any) -> Envelope:
    """Return the envelope of a parsed message; nonsense gives an empty one, which nothing is routed by."""
    if not (method := method_in(message)):
        return Envelope("")
    params = message.get("params")
    return Envelope(method, _name(params) if isinstance(params, dict) else "")


def _name(params: dict[str, Any]) -> str:
    reference = params.get("ref")  # completion/complete names a prompt or a template
    for holder in (params, reference if isinstance(reference, dict) else {}):
        for key in ("name", "uri", "taskId"):
            if isinstance(holder.get(key), str):
                return str(holder[key])
    return ""
