from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from fleet_common.mcp.body import ClientGone
from fleet_gateway.carriers.patience import Patience

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
PART: Message = {"type": "http.request", "body": b"x", "more_body": True}
LAST: Message = {"type": "http.request", "body": b"x", "more_body": False}


class Peer:
    """A client that sends what it is told, and then stands still."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.taken: list[Message] = []
        self.takes = True

    async def receive(self) -> Message:
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)

    async def send(self, message: Message) -> None:
        if not self.takes:
            await asyncio.Event().wait()
        self.taken.append(message)


def patience(peer: Peer) -> Patience:
    return Patience(peer.receive, peer.send, still_s=0.02)


async def test_a_body_that_stands_still_is_a_client_that_left() -> None:
    client = patience(Peer(PART))
    assert await client.receive() == PART
    assert (await client.receive())["type"] == "http.disconnect"
    assert client.is_lost


async def test_a_client_that_stands_still_after_the_answer_began_gets_no_other_one() -> None:
    peer = Peer(PART)
    client = patience(peer)
    await client.receive()
    await client.send(START)
    await client.receive()
    assert (client.is_lost, peer.taken) == (False, [START])


async def test_a_client_that_sent_everything_may_wait_for_as_long_as_it_takes() -> None:
    peer = Peer(LAST)
    client = patience(peer)
    await client.receive()
    waiting = asyncio.create_task(client.receive())
    done, _ = await asyncio.wait({waiting}, timeout=0.1)
    assert not done
    waiting.cancel()


async def test_a_client_that_takes_nothing_is_gone() -> None:
    peer = Peer()
    peer.takes = False
    with pytest.raises(ClientGone):
        await patience(peer).send(START)
