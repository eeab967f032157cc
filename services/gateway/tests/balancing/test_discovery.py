from __future__ import annotations

import socket
from typing import Any

import pytest

from fleet_gateway.balancing.discovery import addresses
from fleet_gateway.balancing.models import Address


async def test_an_ip_address_is_its_own_endpoint() -> None:
    found = await addresses(["http://10.0.0.1:8081", "https://[::1]:8443"])
    assert found == frozenset(
        {
            Address("http://10.0.0.1:8081", "10.0.0.1:8081"),
            Address("https://[::1]:8443", "[::1]:8443", "::1"),
        }
    )


async def test_a_name_stands_for_all_its_addresses_and_stays_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers(monkeypatch, ["10.0.0.1", "10.0.0.2", "fd00::1"])
    assert await addresses(["http://data-pods:8081"]) == frozenset(
        {
            Address("http://10.0.0.1:8081", "data-pods:8081"),
            Address("http://10.0.0.2:8081", "data-pods:8081"),
            Address("http://[fd00::1]:8081", "data-pods:8081"),
        }
    )


async def test_a_name_is_looked_up_for_real() -> None:
    found = await addresses(["http://localhost:8081"])
    assert found is not None
    assert Address("http://127.0.0.1:8081", "localhost:8081") in found


@pytest.mark.parametrize(("code", "expected"), [("EAI_NONAME", frozenset()), ("EAI_AGAIN", None)])
async def test_no_such_name_means_no_endpoint_and_no_dns_means_no_news(
    monkeypatch: pytest.MonkeyPatch, code: str, expected: frozenset[Address] | None
) -> None:
    answers(monkeypatch, socket.gaierror(getattr(socket, code), "no"))
    assert await addresses(["http://data-pods:8081", "http://10.0.0.1:1"]) == (
        None if expected is None else {Address("http://10.0.0.1:1", "10.0.0.1:1")}
    )


def answers(monkeypatch: pytest.MonkeyPatch, what: list[str] | Exception) -> None:
    """Let DNS say this: the test must not depend on a real zone."""

    def getaddrinfo(_host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if isinstance(what, Exception):
            raise what
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)) for address in what
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
