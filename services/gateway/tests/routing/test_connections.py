"""What becomes of a connection, and what is taken for an answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fleet_common.errors import InvalidInput, Unavailable
from fleet_common.testing.certificates import authority
from fleet_gateway.balancing.models import Address
from fleet_gateway.routing.connection import Broken, Connection
from fleet_gateway.routing.connections import Connections, Exchange, Refused

OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"Content-Length: 2\r\n\r\nhi"


class Peer:
    """Answers each request with the same bytes, as a service or as something else on its port would."""

    def __init__(self, says: bytes, *, hangs_up: bool) -> None:
        self.says = says
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self._hangs_up = hangs_up

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        with suppress(ConnectionError):
            while await reader.read(65536):
                writer.write(self.says)
                if self._hangs_up:
                    break
        writer.close()


@asynccontextmanager
async def peer(
    says: bytes, *, hangs_up: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[tuple[Peer, Address]]:
    one = Peer(says, hangs_up=hangs_up)
    server = await asyncio.start_server(one.talk, "127.0.0.1", 0, ssl=tls)
    origin = "{}://{}:{}".format("https" if tls else "http", *server.sockets[0].getsockname())
    yield one, Address(origin, "data")
    server.close()
    for writer in one.writers:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def connections() -> AsyncGenerator[Connections]:
    kept = Connections(connect_timeout_s=1)
    async with kept.opened():
        yield kept


def get(connections: Connections, address: Address, method: str = "GET") -> Exchange:
    return connections.request(address, method, "/mcp", [(b"host", b"data")])


async def body_of(connections: Connections, address: Address, method: str = "GET") -> bytes:
    async with get(connections, address, method) as answer:
        return await answer.read()


WHOLE = {
    "a length": (HI, b"hi"),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\nX-A: b\r\n\r\n", b"hi"),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "only announced at first": (b"HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n" + HI, b"hi"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "a length without a body": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
    "a large body": (OK + b"Content-Length: 3000000\r\n\r\n" + b"x" * 3_000_000, b"x" * 3_000_000),
}  # fmt: skip
BROKEN = {
    "too short": OK + b"Content-Length: 3\r\n\r\nhi",
    "chunks without an end": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    "no head": b"HTTP/1.1 200 OK\r\nX-A: b\r\n",
    "nothing": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
    "a length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded header": OK + b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\nhi",
    "an endless head": OK + b"X-A: " + b"a" * 400_000,
}  # fmt: skip


@pytest.mark.parametrize("what", WHOLE)
async def test_an_answer_is_what_was_sent(connections: Connections, what: str) -> None:
    says, body = WHOLE[what]
    async with peer(says) as (_, address):
        for _ in range(2):
            async with get(connections, address) as answer:
                assert await answer.read() == body
                assert answer.header(b"x-a") == b""


@pytest.mark.parametrize("what", BROKEN)
async def test_half_an_answer_is_none(connections: Connections, what: str) -> None:
    async with peer(BROKEN[what], hangs_up=True) as (_, address):
        with pytest.raises(Broken):
            await body_of(connections, address)


async def test_an_answer_without_a_length_ends_with_its_connection(
    connections: Connections,
) -> None:
    async with peer(OK + b"\r\nhi", hangs_up=True) as (_, address):
        assert await body_of(connections, address) == b"hi"


async def test_a_head_is_no_body(connections: Connections) -> None:
    async with peer(OK + b"Content-Length: 9\r\n\r\n") as (one, address):
        assert await body_of(connections, address, "HEAD") == b""
        assert await body_of(connections, address, "HEAD") == b""
    assert one.connections == 2


async def test_a_connection_is_used_again(connections: Connections) -> None:
    async with peer(HI) as (one, address):
        for _ in range(3):
            assert await body_of(connections, address) == b"hi"
    assert one.connections == 1


@pytest.mark.parametrize(
    "says", [HI + HI, HI + b"?", OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi"]
)
async def test_what_nobody_asked_for_answers_no_other_request(
    connections: Connections, says: bytes
) -> None:
    async with peer(says) as (one, address):
        for _ in range(2):
            assert await body_of(connections, address) == b"hi"
    assert one.connections == 2


async def test_what_comes_between_two_requests_ends_the_connection(
    connections: Connections,
) -> None:
    async with peer(HI) as (one, address):
        async with get(connections, address) as answer:
            await answer.read()
            kept: Connection = answer
        kept.data_received(HI)
        assert not kept.is_reusable
        assert await body_of(connections, address) == b"hi"
    assert one.connections == 2


async def test_an_answer_that_was_not_read_takes_its_connection_along(
    connections: Connections,
) -> None:
    async with peer(OK + b"Content-Length: 9\r\n\r\nhi") as (one, address):
        for _ in range(2):
            async with get(connections, address) as answer:
                assert await answer.chunk() == b"hi"
    assert one.connections == 2


async def test_an_early_answer_leaves_no_half_request_behind(connections: Connections) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        yield b"part"
        await asyncio.Event().wait()

    async with peer(HI) as (one, address):
        async with connections.request(address, "POST", "/mcp", [], endless()) as answer:
            assert await answer.read() == b"hi"
            kept = answer
        assert not kept.is_reusable
        assert await body_of(connections, address) == b"hi"
    assert one.connections == 2


async def test_an_old_connection_is_used_no_more() -> None:
    young = Connections(connect_timeout_s=1, max_age_s=0)
    async with young.opened(), peer(HI) as (one, address):
        for _ in range(2):
            await body_of(young, address)
    assert one.connections == 2


async def test_what_is_idle_or_silent_is_closed(connections: Connections) -> None:
    async with peer(OK + b"Content-Length: 9\r\n\r\nhi") as (one, address):
        async with get(connections, address) as answer:
            assert await answer.chunk() == b"hi"
            answer.heard -= 1000
            connections._look(asyncio.get_running_loop().time())
            with pytest.raises(Broken):
                await answer.chunk()
        one.says = HI
        async with get(connections, address) as answer:
            await answer.read()
        connections._look(answer.heard + 3)
        assert answer.is_reusable
        connections._look(answer.heard + 5)
        assert not answer.is_reusable


@pytest.mark.parametrize("value", [b"a\r\nHost: b", b"a\nb", b"a\rb", b"a\0b"])
async def test_no_value_can_become_a_header_of_its_own(
    connections: Connections, value: bytes
) -> None:
    address = Address("http://127.0.0.1:9", "data")
    with pytest.raises(InvalidInput):
        connections.request(address, "GET", "/mcp", [(b"x-a", value)])
    with pytest.raises(InvalidInput):
        connections.request(address, "GET", "/mcp HTTP/1.1", [])


async def test_where_nobody_listens_nothing_was_sent(connections: Connections) -> None:
    async with peer(HI) as (_, address):
        pass
    with pytest.raises(Refused):
        await body_of(connections, address)


async def test_a_closed_gateway_has_no_connections() -> None:
    with pytest.raises(Unavailable):
        await body_of(Connections(connect_timeout_s=1), Address("http://127.0.0.1:9", "data"))


async def test_over_tls_only_the_service_that_was_asked_for_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = await asyncio.to_thread(authority, tmp_path, "data.team.svc")
    bundle = tmp_path / "ca.pem"
    await asyncio.to_thread(bundle.write_text, trusted.pem)
    async with peer(HI, tls=trusted.server) as (_, address):
        ours = replace(address, tls_name="data.team.svc")
        unknown = Connections(connect_timeout_s=9)
        async with unknown.opened():
            with pytest.raises(Refused):  # the machine does not trust this authority
                await body_of(unknown, ours)
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        known = Connections(connect_timeout_s=9)
        async with known.opened():
            assert await body_of(known, ours) == b"hi"
            with pytest.raises(Refused):
                await body_of(known, replace(address, tls_name="aiml.team.svc"))
