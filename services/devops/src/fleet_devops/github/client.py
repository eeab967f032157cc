"""GitHub's REST API over the shared pooled client.

One GET becomes one of the outcomes of `outcome.classify`. Nothing here sleeps: retries of transient failures
belong to the pooled client, within the caller's deadline, and a rate limit is an error that says when to come
back. Until then further calls fail at once, because asking again lengthens a secondary limit.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

import httpx
import structlog
from pydantic import SecretStr

from fleet_common.errors import FleetError, UpstreamFailed
from fleet_devops.errors import GitHubLimited, Moved
from fleet_devops.github.cache import Entry, EtagCache
from fleet_devops.github.models import Reply
from fleet_devops.github.outcome import Outcome, classify, error_for

log = structlog.get_logger()

JSON = "application/vnd.github+json"
# 2026-03-10 drops `assignee` and more; Enterprise Server up to 3.19 knows only this one.
API_VERSION = "2022-11-28"
_PAGE_KEYS = ("page", "after", "before")
_LIMITS = (Outcome.PRIMARY_LIMITED, Outcome.SECONDARY_LIMITED)


class GitHubClient:
    """Reads GitHub with one credential.

    Args:
        http: pooled client whose base URL is the API's.
        token: the service's own; None reads public data only.
        cache: answers to revalidate.
    """

    def __init__(
        self, http: httpx.AsyncClient, *, token: SecretStr | None, cache: EtagCache
    ) -> None:
        self._http = http
        self._cache = cache
        secret = token.get_secret_value() if token else ""
        self._token_hash = hashlib.sha256(secret.encode()).hexdigest()
        self._headers = {"X-GitHub-Api-Version": API_VERSION, "User-Agent": "mcp-fleet-devops"}
        if secret:
            self._headers["Authorization"] = f"Bearer {secret}"
        self._limit: GitHubLimited | None = None
        self._limited_until = 0.0

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        kind: str,
        key: str,
        accept: str = JSON,
        follow: bool = False,
    ) -> Reply:
        """Return GitHub's answer.

        Args:
            path: below the API's root, already quoted, with no leading slash.
            params: query parameters.
            kind: what is asked for, for messages: "repository", "file", "issue".
            key: which one.
            accept: media type.
            follow: follow one redirect on the same origin. Only for a caller that checks where it ended.

        Raises:
            GitHubLimited: GitHub wants us to wait; it says how long.
            NotFound: it is not there, or this credential may not see it.
            Moved: the repository has another name and `follow` is off.
            Unavailable: GitHub does not answer, or answers with a failure of its own.
            DeadlineExceeded: GitHub does not answer in time.
        """
        self._raise_if_limited()
        url = self._http.base_url.join(path).copy_merge_params(dict(params or {}))
        cache_key = self._cache.key(self._token_hash, str(url), accept)
        known = self._cache.get(cache_key)
        response = await self._send(url, accept, known)
        outcome = classify(response)
        if outcome is Outcome.OK:
            return self._remember(cache_key, response)
        if outcome is Outcome.NOT_MODIFIED and known is not None:
            return known.reply
        if outcome is Outcome.MOVED and follow:
            return await self._followed(response, kind=kind, key=key, accept=accept)
        raise self._failed(outcome, response, kind=kind, key=key)

    async def _send(self, url: httpx.URL, accept: str, known: Entry | None) -> httpx.Response:
        headers = self._headers | {"Accept": accept}
        if known is not None:
            name, value = known.validator
            headers[name] = value
        try:
            return await self._http.get(url, headers=headers)
        except httpx.DecodingError as exc:
            raise UpstreamFailed("GitHub's answer does not decode") from exc

    async def _followed(
        self, response: httpx.Response, *, kind: str, key: str, accept: str
    ) -> Reply:
        target = response.request.url.join(response.headers.get("location", ""))
        if not _same_origin(target, response.request.url):
            raise UpstreamFailed("GitHub redirects to another origin, which is not followed")
        landed = await self._send(target, accept, None)
        outcome = classify(landed)
        if outcome is Outcome.OK:
            return Reply(landed.content)
        raise self._failed(outcome, landed, kind=kind, key=key)

    def _remember(self, cache_key: str, response: httpx.Response) -> Reply:
        reply = Reply(response.content, _next_page(response))
        if etag := response.headers.get("etag"):
            self._cache.put(cache_key, Entry(("If-None-Match", etag), reply))
        elif modified := response.headers.get("last-modified"):
            self._cache.put(cache_key, Entry(("If-Modified-Since", modified), reply))
        return reply

    def _failed(
        self, outcome: Outcome, response: httpx.Response, *, kind: str, key: str
    ) -> FleetError:
        if outcome is Outcome.MOVED:
            return Moved(key)
        error = error_for(outcome, response, kind=kind, key=key)
        if isinstance(error, GitHubLimited) and error.retry_after_s is not None:
            self._limit = error
            self._limited_until = time.monotonic() + error.retry_after_s
            log.warning("github_limited", scope=error.scope, seconds=error.retry_after_s)
        return error

    def _raise_if_limited(self) -> None:
        left_s = self._limited_until - time.monotonic()
        if self._limit is not None and left_s > 0:
            raise GitHubLimited(
                self._limit.scope,
                retry_after_s=round(left_s, 1),
                reset_at=self._limit.reset_at,
            )


def _next_page(response: httpx.Response) -> dict[str, str]:
    """Return the parameters of the next page, never its path: GitHub's links name /repositories/<id>."""
    link = response.links.get("next", {}).get("url")
    if link is None:
        return {}
    url = response.request.url.join(link)
    if not _same_origin(url, response.request.url):
        log.warning("github_link_ignored", host=url.host)
        return {}
    return {key: url.params[key] for key in _PAGE_KEYS if key in url.params}


def _same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    return (one.scheme, one.host, one.port) == (other.scheme, other.host, other.port)
