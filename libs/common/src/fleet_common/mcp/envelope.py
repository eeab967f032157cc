"""What an MCP request over HTTP asks for, read before anything handles it."""

from __future__ import annotations

from typing import Any, NamedTuple

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    decode_header_value,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.types import Receive, Scope

from fleet_common.mcp.body import keep_body
from fleet_common.mcp.headers import first_values

_VERSION, _METHOD, _NAME = (
    header.encode() for header in (MCP_PROTOCOL_VERSION_HEADER, MCP_METHOD_HEADER, MCP_NAME_HEADER)
)
_SAID = "fleet.envelope"


class Envelope(NamedTuple):
    """The part of a request that decides what happens to it.

    Attributes:
        method: such as `tools/call`; empty when there is none.
        name: tool or prompt name, or resource URI; empty when the method has none.
    """

    method: str
    name: str = ""


async def read_envelope(scope: Scope, receive: Receive) -> tuple[Envelope, Receive]:
    """Return what the request asks for, and the `receive` to go on with.

    A 2026-07-28 request says it in its headers, which the server behind checks against the body. Those of older
    versions must not be trusted (MCP 2026-07-28, "Standard headers"): their body is read, and given again.

    Raises:
        PayloadTooLarge: a body that had to be read is over 4 MiB.
        ClientGone: it broke off.
    """
    # As the transport tells the eras apart, or a request could be one thing here and another there.
    named = first_values(scope)
    version = named.get(_VERSION)
    if version is not None and version.decode("latin-1") not in HANDSHAKE_PROTOCOL_VERSIONS:
        return of_headers(scope), receive
    kept = await keep_body(receive)
    return _of_message(kept.parsed()), kept


def of_headers(scope: Scope) -> Envelope:
    """Return what the headers of a request say, whether or not they count; read once."""
    headers = scope["headers"]
    said, envelope = scope.get(_SAID) or (None, Envelope(""))
    if said is not headers:
        named = first_values(scope)
        name = named.get(_NAME, b"").decode("latin-1")
        method = named.get(_METHOD, b"").decode("latin-1")
        envelope = Envelope(method, decode_header_value(name) or "")
        scope[_SAID] = headers, envelope
    return envelope


# Any: JSON.
def _of_message(message: Any) -> Envelope:
    match message:
        case {"method": str(method), "params": {"name": str(name)}}:
            return Envelope(method, name)
        case {"method": str(method), "params": {"uri": str(uri)}}:
            return Envelope(method, uri)
        case {"method": str(method)}:
            return Envelope(method)
        case _:
            return Envelope("")
