from __future__ import annotations

import httpx
import pytest

from fleet_common.errors import RateLimited, UpstreamFailed
from fleet_data.connectors.answers import refusal, told

SECRET = "what-was-sent"


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "invalid_input"), (401, "consent_withdrawn"), (403, "permission_denied"), (404, "not_found"),
     (409, "invalid_input"), (429, "rate_limited"), (500, "unavailable"), (503, "unavailable")],
)  # fmt: skip
def test_a_refusal_has_our_code_and_none_of_the_provider_s_words(status: int, code: str) -> None:
    error = refusal(httpx.Response(status, json={"message": SECRET}), "stripe")
    assert error.code == code
    assert SECRET not in str(error)


@pytest.mark.parametrize(("headers", "wait_s"), [({"Retry-After": "7"}, 7.0), ({}, 10.0)])
def test_a_limit_says_when_to_come_again(headers: dict[str, str], wait_s: float) -> None:
    error = refusal(httpx.Response(429, headers=headers), "stripe")
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize("body", [SECRET, f'["{SECRET}"]', ""])
def test_what_is_no_object_is_no_answer(body: str) -> None:
    with pytest.raises(UpstreamFailed) as caught:
        told(httpx.Response(200, text=body), "stripe")
    assert SECRET not in str(caught.value)
    assert told(httpx.Response(200, json={"id": 1}), "stripe") == {"id": 1}
