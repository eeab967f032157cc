"""What an MCP request over HTTP asks for, read before anything handles it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    decode_header_value,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic_core import from_json
from starlette.types import Message, Receive, Scope

from fleet_common.errors import PayloadTooLarge

_VERSION, _METHOD, _NAME = (
    header.encode() for header in (MCP_PROTOCOL_VERSION_HEADER, MCP_METHOD_HEADER, MCP_NAME_HEADER)
)
MAX_BODY = 4 * 1024 * 1024  # what the transport accepts


@dataclass(frozen=True, slots=True)
class Envelope:
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
    """
    named: dict[bytes, str] = {}
    for key, value in scope["headers"]:
        if key.startswith(b"mcp-"):
            named.setdefault(key, value.decode("latin-1"))
    version = named.get(_VERSION)
    # As the transport tells the eras apart, or a request could be one thing here and another there.
    if version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS:
        return Envelope(
            named.get(_METHOD, ""), decode_header_value(named.get(_NAME)) or ""
        ), receive
    body = await _read(receive)
    return _of_body(body), _again(body, receive)


def _of_body(body: bytes) -> Envelope:
    try:
        message = from_json(body)
    except ValueError:
        message = None  # the transport answers that, as the protocol says
    match message:
        case {"method": str(method), "params": {"name": str(name)}}:
            return Envelope(method, name)
        case {"method": str(method), "params": {"uri": str(uri)}}:
            return Envelope(method, uri)
        case {"method": str(method)}:
            return Envelope(method)
        case _:
            return Envelope("")


async def _read(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        chunk = cast(bytes, message.get("body", b""))
        size += len(chunk)
        if size > MAX_BODY:
            raise PayloadTooLarge("the request body is over 4 MiB")
        chunks.append(chunk)
        more = message["type"] == "http.request" and message.get("more_body", False)
    return b"".join(chunks)


def _again(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return pending.pop() if pending else await receive()

    return next_message
