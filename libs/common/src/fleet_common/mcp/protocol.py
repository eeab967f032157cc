"""HTTP/1.1 as every service speaks it: read by llhttp, in C, where h11 in Python takes three times as long.

llhttp refuses most of what makes two parties disagree about where a request ends. What it, or uvicorn's use of it,
would still let through is refused or put right here, so that the same bytes mean what they mean to h11, or nothing.
A request that offers another protocol (h2c, as Java's client does) is given to h11, which ignores the offer:
llhttp would take its body for that protocol.
"""

from __future__ import annotations

import asyncio

import httptools
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 * 1024
"""Bytes that are read for a head, or after a body, before the connection is given up."""

_REFUSAL = "Invalid HTTP request received."


class _Malformed(Exception):
    """A head that llhttp accepts and HTTP does not."""


class Http1(HttpToolsProtocol):
    """One connection; uvicorn makes one for each as `Config(http=Http1)`."""

    _idle_bytes = 0  # read since the last head was whole or the last piece of a body came
    _reads_head = False
    _hosts = 0
    _idle_since: float | None = None  # when the last answer ended; None while one is owed
    _idle_look: asyncio.TimerHandle | None = None
    _is_last = False  # nothing more is read: the connection ends with the answers it owes

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin."""
        super().connection_made(transport)
        self.transport = self._outbox = _Outbox(transport, self.loop)

    def data_received(self, data: bytes) -> None:
        """Read what the client sent."""
        if self._is_last:
            return
        self._unset_keepalive_if_required()
        self._idle_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._hand_over(data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse()
        else:
            if self._idle_bytes > MAX_HEAD:
                self._refuse()

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._reads_head = True
        self._hosts = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head; what comes after a body is no header of the request (RFC 9110 §6.5.1)."""
        if not self._reads_head:
            return
        # RFC 9110 §5.5: white space around a value is no part of it.
        name, value = name.lower(), value.strip(b" \t")
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding" and value.lower() != b"chunked":
            raise _Malformed
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the request, unless its head means one thing here and may mean another elsewhere."""
        self._reads_head = False
        self._idle_bytes = 0
        version = self.parser.get_http_version()
        if version == "1.1":
            is_whole = self._hosts == 1  # RFC 9112 §3.2
        else:
            # RFC 9112 §6.1: an older client cannot have meant a transfer coding.
            is_whole = version == "1.0" and self._hosts < 2 and not self._is_coded()
        if not self.parser.should_upgrade() and not (is_whole and self._has_plain_target()):
            raise _Malformed
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._idle_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what was asked meanwhile, or be idle until the next request."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self._idle_look is None:
            self._idle_look = self.loop.call_later(self.timeout_keep_alive, self._end_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        if self._idle_look is not None:
            self._idle_look.cancel()

    def _unset_keepalive_if_required(self) -> None:
        # uvicorn ends a timer here and begins one after each answer; one that looks now and then costs 3 % less.
        self._idle_since = None

    def _end_if_idle(self) -> None:
        self._idle_look = None
        if self._idle_since is None:
            return  # the end of the answer that is owed begins a new look
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._idle_look = self.loop.call_later(left_s, self._end_if_idle)
        else:
            self.timeout_keep_alive_handler()

    def _is_coded(self) -> bool:
        return any(name == b"transfer-encoding" for name, _ in self.headers)

    def _has_plain_target(self) -> bool:
        # An absolute target would overrule `Host`, which has been checked; a fragment would silently go.
        return self.url.startswith(b"/") and b"#" not in self.url

    def _should_upgrade(self) -> bool:
        return True  # uvicorn then leaves the request alone, and `data_received` is told

    def _hand_over(self, rest: bytes) -> None:
        """Let h11 read this connection from the head that was just read."""
        if self._is_answering():
            self._end_after_answers()
            return
        method = self.parser.get_method()
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [name + b": " + value for name, value in self.headers]
        self.connections.discard(self)
        successor = H11Protocol(self.config, self.server_state, self.app_state)
        transport = self._outbox.emptied()
        successor.connection_made(transport)
        transport.set_protocol(successor)
        successor.data_received(b"\r\n".join([*lines, b"", rest]))

    def _refuse(self) -> None:
        """Give the connection up; 400 only to a client that cannot take it for the answer to another request."""
        self.logger.warning(_REFUSAL)
        if not self._is_answering():
            self.send_400_response(_REFUSAL)
        elif not self.cycle.more_body:
            self._end_after_answers()  # what was asked before was whole
        elif self.pipeline or self.cycle.response_started:
            self.transport.close()
        else:
            self.send_400_response(_REFUSAL)

    def _is_answering(self) -> bool:
        # uvicorn's annotation forgets that there is none before the first request.
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]

    def _end_after_answers(self) -> None:
        self._is_last = True
        self.cycle.keep_alive = False


class _Outbox(asyncio.Transport):
    """A connection's transport, on which the head of an answer waits for the body that comes right behind it.

    uvicorn writes the two one by one, and each write is a system call that wakes the client. What nothing follows goes
    out in the loop's next turn.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._waiting = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, or keep it for a moment."""
        if self._waiting:
            self._waiting += data
            self.emptied()
        else:
            self._waiting = bytes(data)
            self._loop.call_soon(self.emptied)

    def emptied(self) -> asyncio.Transport:
        """Send what waits, and return the transport itself."""
        if self._waiting and not self._transport.is_closing():
            data, self._waiting = self._waiting, b""
            self._transport.write(data)
        return self._transport

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self.emptied().close()

    def is_closing(self) -> bool:
        """Return whether the connection is closed or about to be."""
        return self._transport.is_closing()
