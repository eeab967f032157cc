"""One GET, and everything GitHub may answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from fleet_common.errors import (
    Conflict,
    DeadlineExceeded,
    FleetError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    Unavailable,
    UpstreamFailed,
)
from fleet_common.http import open_client
from fleet_devops.errors import CredentialRejected, GitHubLimited, Moved
from fleet_devops.github.cache import EtagCache
from fleet_devops.github.client import API_VERSION, GitHubClient

if TYPE_CHECKING:
    from services.devops.tests.github.conftest import FaultProxy

REPO = "repos/admin/hello"


async def get(client: GitHubClient, *, follow: bool = False) -> bytes:
    reply = await client.get(REPO, kind="repository", key="admin/hello", follow=follow)
    return reply.body


async def test_every_request_names_the_api_version_and_the_credential(
    client: GitHubClient, proxy: FaultProxy
) -> None:
    await get(client)

    sent = proxy.calls[0].headers
    assert sent["x-github-api-version"] == API_VERSION
    assert sent["authorization"] == "Bearer test-token"
    assert sent["accept"] == "application/vnd.github+json"


async def test_without_a_token_no_credential_is_sent(proxy: FaultProxy) -> None:
    async with open_client(name="github", base_url=proxy.url) as http:
        await get(GitHubClient(http, token=None, cache=EtagCache(0)))

    assert "authorization" not in proxy.calls[0].headers


async def test_a_hundred_identical_reads_count_once(
    client: GitHubClient, proxy: FaultProxy
) -> None:
    first = await get(client)
    for _ in range(100):
        assert await get(client) == first

    assert len(proxy.counted) == 1


async def test_answers_of_one_token_are_not_confirmed_to_another(proxy: FaultProxy) -> None:
    cache = EtagCache(1_000_000)
    async with open_client(name="github", base_url=proxy.url) as http:
        await get(GitHubClient(http, token=SecretStr("one"), cache=cache))
        await get(GitHubClient(http, token=SecretStr("two"), cache=cache))

    assert "if-none-match" not in proxy.calls[1].headers


@pytest.mark.parametrize(
    ("status", "headers", "body", "error"),
    [
        (401, {}, b"{}", CredentialRejected),
        (403, {}, b'{"message": "Resource not accessible"}', PermissionDenied),
        (404, {}, b"{}", NotFound),
        (410, {}, b"{}", NotFound),
        (409, {}, b'{"message": "Git Repository is empty."}', Conflict),
        (422, {}, b'{"message": "Validation Failed"}', InvalidInput),
        (451, {}, b"{}", PermissionDenied),
        (500, {}, b"", Unavailable),
        (502, {}, b"<html>", Unavailable),
        (301, {"Location": "/repositories/1"}, b"{}", Moved),
        (304, {}, b"", UpstreamFailed),
        (200, {"Content-Encoding": "gzip"}, b"not gzip", UpstreamFailed),
    ],
)
async def test_refusals_become_coded_errors(
    client: GitHubClient,
    proxy: FaultProxy,
    *,
    status: int,
    headers: dict[str, str],
    body: bytes,
    error: type[FleetError],
) -> None:
    proxy.fail(status, headers, body)

    with pytest.raises(error):
        await get(client)


@pytest.mark.parametrize(
    ("status", "headers", "body", "scope", "wait_s"),
    [
        (403, {"X-RateLimit-Remaining": "0"}, b"{}", "primary", 60),
        (429, {"X-RateLimit-Remaining": "0", "Retry-After": "7"}, b"{}", "primary", 7),
        (403, {"Retry-After": "30"}, b"{}", "secondary", 30),
        (429, {}, b"{}", "secondary", 60),
        (403, {}, b'{"message": "You have exceeded a secondary rate limit."}', "secondary", 60),
        (403, {}, b'{"message": "You triggered an abuse detection mechanism"}', "secondary", 60),
        (429, {"Retry-After": "999999"}, b"{}", "secondary", 3600),
    ],
)
async def test_a_limit_is_an_error_with_its_wait_and_nothing_sleeps(
    client: GitHubClient,
    proxy: FaultProxy,
    *,
    status: int,
    headers: dict[str, str],
    body: bytes,
    scope: str,
    wait_s: float,
) -> None:
    proxy.fail(status, headers, body)
    began = time.monotonic()

    with pytest.raises(GitHubLimited) as caught:
        await get(client)

    assert caught.value.scope == scope
    assert caught.value.retry_after_s == wait_s
    assert caught.value.to_dict()["retryAfterMs"] == wait_s * 1000
    assert time.monotonic() - began < 6


async def test_a_primary_limit_says_when_it_is_lifted(
    client: GitHubClient, proxy: FaultProxy
) -> None:
    reset = int(time.time()) + 600
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset)}
    proxy.fail(403, headers, b"{}")

    with pytest.raises(GitHubLimited) as caught:
        await get(client)

    assert caught.value.reset_at is not None
    assert caught.value.reset_at.timestamp() == reset
    assert 590 < (caught.value.retry_after_s or 0) <= 602
    assert "resetAt" in caught.value.to_dict()


async def test_while_limited_github_is_not_asked_again(
    client: GitHubClient, proxy: FaultProxy
) -> None:
    proxy.fail(429, {"Retry-After": "60"}, b"{}")
    with pytest.raises(GitHubLimited):
        await get(client)

    with pytest.raises(GitHubLimited) as again:
        await get(client)

    assert len(proxy.calls) == 1
    assert 55 < (again.value.retry_after_s or 0) <= 60


async def test_a_slow_answer_is_a_deadline_error(proxy: FaultProxy) -> None:
    proxy.stall(1.0)
    async with open_client(name="github", base_url=proxy.url, timeout_s=0.2) as http:
        with pytest.raises(DeadlineExceeded):
            await get(GitHubClient(http, token=None, cache=EtagCache(0)))


async def test_an_answer_that_breaks_off_is_unavailable(
    client: GitHubClient, proxy: FaultProxy
) -> None:
    proxy.cut_short()

    with pytest.raises(Unavailable):
        await get(client)


async def test_a_redirect_is_followed_on_the_same_origin_when_allowed(
    client: GitHubClient, proxy: FaultProxy
) -> None:
    proxy.fail(301, {"Location": f"{proxy.url}/repos/admin/hello"}, b"{}")

    assert b'"full_name":"admin/hello"' in await get(client, follow=True)


async def test_a_redirect_to_another_origin_is_not_followed(
    client: GitHubClient, proxy: FaultProxy
) -> None:
    proxy.fail(301, {"Location": "http://127.0.0.1:9/repos/admin/hello"}, b"{}")

    with pytest.raises(UpstreamFailed, match="another origin"):
        await get(client, follow=True)


async def test_a_redirect_that_ends_in_a_refusal_is_that_refusal(
    client: GitHubClient, proxy: FaultProxy
) -> None:
    proxy.fail(301, {"Location": "/repos/admin/gone"}, b"{}")

    with pytest.raises(NotFound):
        await get(client, follow=True)


async def test_the_next_page_is_known_by_its_parameters(client: GitHubClient) -> None:
    reply = await client.get(
        f"{REPO}/issues", {"per_page": "2", "state": "all"}, kind="repository", key="admin/hello"
    )

    assert reply.next_page == {"page": "2"}


async def test_a_next_page_on_another_origin_is_ignored(
    client: GitHubClient, proxy: FaultProxy
) -> None:
    proxy.link = '<http://127.0.0.1:9/repositories/1/issues?page=2>; rel="next"'

    reply = await client.get(f"{REPO}/issues", kind="repository", key="admin/hello")

    assert reply.next_page == {}
