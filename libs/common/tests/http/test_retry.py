from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_common.clock import ManualClock
from fleet_common.http.retry import RetryBudget, RetryPolicy, is_repeatable, retry_after_s

URL = "http://dependency.test/"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_idempotent_methods_are_repeatable(method: str) -> None:
    assert is_repeatable(httpx.Request(method, URL))


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_other_methods_are_repeatable_only_with_an_idempotency_key(method: str) -> None:
    assert not is_repeatable(httpx.Request(method, URL, json={}))
    assert is_repeatable(httpx.Request(method, URL, json={}, headers={"idempotency-key": "k1"}))


def test_a_body_that_can_be_read_once_is_not_repeatable() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    assert not is_repeatable(httpx.Request("PUT", URL, content=body()))


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("0", 0.0), ("soon", None), ("", None), ("-1", None)]
)
def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after_s(httpx.Response(503, headers={"Retry-After": value})) == seconds


def test_no_retry_after_is_no_wait() -> None:
    assert retry_after_s(httpx.Response(503)) is None


def test_retry_after_as_a_date() -> None:
    for at, low, high in (
        (datetime.now(UTC) + timedelta(seconds=30), 25, 30),
        (datetime.now(UTC) - timedelta(days=1), 0, 0),
    ):
        response = httpx.Response(429, headers={"Retry-After": format_datetime(at, usegmt=True)})
        seconds = retry_after_s(response)
        assert seconds is not None
        assert low <= seconds <= high


def test_a_date_without_a_zone_is_utc() -> None:
    response = httpx.Response(429, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 -0000"})
    assert retry_after_s(response) == 0


def test_waits_double_up_to_the_longest() -> None:
    policy = RetryPolicy(wait_initial_s=0.1, wait_max_s=0.5, wait_jitter_s=0.1)
    assert [policy.longest_wait_s(n) for n in (1, 2, 3, 9)] == pytest.approx([0.2, 0.3, 0.5, 0.5])


def test_a_floor_of_retries_is_there_without_successes() -> None:
    budget = RetryBudget(RetryPolicy(budget_floor=2), clock=ManualClock())
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]


def test_ten_successes_pay_for_one_retry() -> None:
    budget = RetryBudget(RetryPolicy(budget_floor=0), clock=ManualClock())
    for _ in range(9):
        budget.deposit()
    assert not budget.withdraw()
    budget.deposit()
    assert budget.withdraw()
    assert not budget.withdraw()


def test_the_floor_comes_back_within_a_minute_and_not_more() -> None:
    clock = ManualClock()
    budget = RetryBudget(RetryPolicy(budget_floor=3), clock=clock)
    while budget.withdraw():
        pass
    clock.advance(20)
    assert [budget.withdraw(), budget.withdraw()] == [True, False]
    clock.advance(3600)
    assert [budget.withdraw() for _ in range(4)] == [True, True, True, False]


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=400))
def test_retries_never_pass_the_floor_and_a_tenth_of_successes(successes: list[bool]) -> None:
    budget = RetryBudget(RetryPolicy(budget_floor=3), clock=ManualClock())
    retries = 0
    for success in successes:
        if success:
            budget.deposit()
        else:
            retries += budget.withdraw()
    assert retries <= 3 + sum(successes) / 10 + 1e-6
