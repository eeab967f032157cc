from __future__ import annotations

from contextlib import ExitStack

import pytest

from fleet_common.errors import Overloaded, RateLimited
from fleet_gateway.routing.shares import Share, address_of


def test_a_path_has_room_for_so_many_and_one_sender_for_half_of_them() -> None:
    share = Share(4)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(share.held("one"))
        with pytest.raises(RateLimited) as own, share.held("one"):
            pass
        for sender in ("two", "three"):
            held.enter_context(share.held(sender))
        with pytest.raises(Overloaded) as shared, share.held("four"):
            pass
        assert own.value.retry_after_s
        assert shared.value.retry_after_s
    with share.held("one"):
        pass


def test_a_request_that_fails_gives_its_room_back() -> None:
    share = Share(2)
    for _ in range(3):
        with pytest.raises(KeyError), share.held("one"):
            raise KeyError


@pytest.mark.parametrize(
    ("client", "sender"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3::4", 1), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 1), "::ffff:192.0.2.7"),
        (("a-socket", 1), "a-socket"),
        (None, ""),
    ],
)
def test_a_sender_is_an_address_or_an_ipv6_network(client: object, sender: str) -> None:
    assert address_of({"client": client}) == sender
