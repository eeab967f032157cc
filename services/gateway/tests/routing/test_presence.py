from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from fleet_common.mcp.body import ClientGone
from fleet_gateway.routing.answer import Answer
from fleet_gateway.routing.body import Body
from fleet_gateway.routing.presence import Presence


class Client:
    """Sends a whole body, and leaves when it is told to."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self._pending: list[Message] = [{"type": "http.request", "body": b"{}"}]

    async def receive(self) -> Message:
        if self._pending:
            return self._pending.pop()
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, _message: Message) -> None:
        """Take what comes."""


@pytest.fixture
def client() -> Client:
    return Client()


async def watched(client: Client, answer: Answer, until: asyncio.Event) -> None:
    body = Body(client.receive)
    await body.begin()
    with Presence().needed(body, answer):
        await until.wait()


async def test_a_client_that_leaves_ends_the_call(client: Client) -> None:
    call = asyncio.create_task(watched(client, Answer(client.send), asyncio.Event()))
    client.leaves.set()
    with pytest.raises(ClientGone):
        await call


async def test_a_call_that_somebody_else_ends_is_cancelled(client: Client) -> None:
    call = asyncio.create_task(watched(client, Answer(client.send), asyncio.Event()))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_whoever_leaves_with_the_whole_answer_ends_nothing(client: Client) -> None:
    answer, until = Answer(client.send), asyncio.Event()
    answer.is_complete = True
    call = asyncio.create_task(watched(client, answer, until))
    client.leaves.set()
    await asyncio.sleep(0.2)  # longer than the watch takes to begin
    until.set()
    await call
