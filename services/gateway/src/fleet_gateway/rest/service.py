"""`POST /api/tools/{name}`: JSON arguments in, the tool's result out, for callers that speak no MCP.

The request becomes a 2026-07-28 `tools/call` and takes the router's way, so rights, limits, approvals and audit are
the tool's own. Errors have the HTTP status that docs/errors.md gives their code.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_common.errors import FleetError, InvalidInput, error_table
from fleet_common.logs import with_trace_id
from fleet_common.mcp.body import Kept, parsed_body, read_body
from fleet_common.mcp.envelope import Envelope
from fleet_common.mcp.middleware import ERROR_META
from fleet_gateway.lists.sources import capture, message_of

API_PATH = "/api/tools/{name}"
_VERSION = "2026-07-28"
_STATUS = {row.code: row.http_status for row in error_table()}
_UNKNOWN_STATUS = 502
_NOT_PASSED = {"accept", "content-type", "content-length", "content-encoding", "transfer-encoding"}


def asks(scope: Scope) -> Envelope:
    """Return what a request at this door asks for."""
    return Envelope("tools/call", scope["path_params"]["name"])


class RestDoor:
    """What is behind `/api/tools/{name}`."""

    def __init__(self, router: ASGIApp) -> None:
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the tool and answer with its result or its error."""
        try:
            response = await self._call(scope, receive)
        except FleetError as exc:
            response = _refusal(with_trace_id(exc.to_dict()), exc.http_status)
        await response(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive) -> JSONResponse:
        if scope["method"] != "POST":
            return JSONResponse({"error": {"code": "invalid_input", "message": "use POST"}}, 405)
        name = scope["path_params"]["name"]
        arguments = _arguments(await read_body(receive))
        body = json.dumps(_message(name, arguments)).encode()
        asked = {**scope, "headers": _headers(scope, name, body)}
        status, content_type, answer = await capture(self._router, asked, Kept(body, receive))
        return _response(status, message_of(content_type, answer))


def _arguments(body: bytes) -> dict[str, Any]:
    arguments = parsed_body(body) if body.strip() else {}
    if not isinstance(arguments, dict):
        raise InvalidInput("the body must be a JSON object: the tool's arguments")
    return arguments


def _message(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": _VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": name, "arguments": arguments, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def _headers(scope: Scope, name: str, body: bytes) -> list[tuple[bytes, bytes]]:
    own = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": _VERSION,
        "mcp-method": "tools/call",
        "mcp-name": name,
    }
    kept = {
        key: value
        for key, value in Headers(scope=scope).items()
        if key not in _NOT_PASSED and not key.startswith("mcp-")
    }
    return [
        (key.encode("latin-1"), value.encode("utf-8")) for key, value in {**kept, **own}.items()
    ]


def _response(status: int, message: dict[str, Any]) -> JSONResponse:
    error = message.get("error")
    if isinstance(error, dict):
        facts = error.get("data") or {"code": "invalid_input", "message": error.get("message", "")}
        known = _STATUS.get(str(facts.get("code")), _UNKNOWN_STATUS)
        return _refusal(facts, status if status >= 400 else known)
    result = message["result"]
    if result.get("isError"):
        facts = (result.get("_meta") or {}).get(ERROR_META) or {"code": "upstream_failed"}
        return _refusal(facts, _STATUS.get(facts["code"], _UNKNOWN_STATUS))
    structured = result.get("structuredContent")
    return JSONResponse({"content": result.get("content")} if structured is None else structured)


def _refusal(facts: dict[str, Any], status: int) -> JSONResponse:
    wait_ms = facts.get("retryAfterMs")
    headers = {} if wait_ms is None else {"retry-after": str(max(1, round(wait_ms / 1000)))}
    return JSONResponse({"error": facts}, status, headers)
