from __future__ import annotations

import pytest
from starlette.types import Message, Receive

from fleet_common.errors import PayloadTooLarge
from fleet_common.mcp.body import MAX_BODY, ClientGone, Kept, keep_body, peek_body, read_body

GONE: Message = {"type": "http.disconnect"}


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def saying(*messages: Message) -> Receive:
    left = [*messages]

    async def receive() -> Message:
        return left.pop(0)

    return receive


async def test_a_kept_body_is_given_whole_and_then_what_comes_next() -> None:
    kept = await keep_body(saying(part(b"a", more=True), part(b"b"), GONE))
    assert kept.body == b"ab"
    assert [await kept(), await kept()] == [part(b"ab"), GONE]


async def test_what_was_kept_is_not_read_again() -> None:
    kept = await keep_body(saying(part(b"{}")))
    assert await keep_body(kept) is kept
    assert await read_body(kept) == b"{}"


async def test_a_peek_takes_no_more_than_it_must() -> None:
    peeked = await peek_body(saying(part(b"ab", more=True), part(b"cd")), size_bytes=2)
    assert (peeked.body, peeked.is_whole) == (b"ab", False)
    assert await read_body(peeked) == b"abcd"


async def test_a_body_that_was_peeked_at_in_part_is_kept_whole() -> None:
    peeked = await peek_body(saying(part(b"ab", more=True), part(b"cd")), size_bytes=2)
    assert (await keep_body(peeked)).body == b"abcd"


async def test_a_client_that_leaves_under_a_peek_is_gone_for_the_next_reader() -> None:
    peeked = await peek_body(saying(part(b"ab", more=True), GONE), size_bytes=9)
    assert peeked.body == b"ab"
    with pytest.raises(ClientGone):
        await read_body(peeked)


async def test_a_body_that_came_at_once_is_held_to_the_limit_too() -> None:
    peeked = await peek_body(saying(part(b" " * (MAX_BODY + 1))), size_bytes=9)
    with pytest.raises(PayloadTooLarge):
        await keep_body(peeked)


@pytest.mark.parametrize(
    ("body", "parsed"), [(b'{"a":1}', {"a": 1}), (b"", None), (b"{", None), (b'"\\ud800"', None)]
)
def test_a_body_that_is_no_json_is_nothing(body: bytes, parsed: object) -> None:
    kept = Kept(body, saying())
    assert kept.parsed() == parsed
    assert kept.parsed() is kept.parsed()
