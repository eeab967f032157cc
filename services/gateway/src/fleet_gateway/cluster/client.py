"""The part of the Kubernetes API that a watcher needs: list, and watch from there.

Plain HTTP, not the `kubernetes` package: it is two GETs, and the package costs 350 ms and 50 MB in every gateway
(docs/decisions/0014).
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import anyio.to_thread
import httpx

from fleet_common.errors import Unavailable, UpstreamFailed
from fleet_common.http import RetryPolicy, open_client
from fleet_common.metrics import Metrics
from fleet_common.settings import SettingsError

# Any: an object of the API server, whose schema is its own.
Object: TypeAlias = Mapping[str, Any]

_API = "the Kubernetes API"
_LIST_S = 10.0
# A watch is short, so that a peer that is gone without a word is noticed soon: one request a minute is no load.
_WATCH_S = 60
_SILENCE_S = _WATCH_S + 15.0
_LONGEST_LINE = 4 * 1024 * 1024  # an object is at most 1.5 MiB


class Expired(Exception):
    """Raised when the server no longer knows the version that was asked for: only a new list helps."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object in one namespace, those with a label.

    Attributes:
        path: of its API group and version, such as `apis/discovery.k8s.io/v1`.
        plural: its name in URLs.
        label: only objects that carry it.
    """

    path: str
    plural: str
    label: str


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch."""

    type: str
    object: Object

    @property
    def version(self) -> str:
        """The version that the next watch may go on from."""
        return str(self.object["metadata"]["resourceVersion"])


@dataclass(frozen=True, slots=True)
class Account:
    """The service account that a pod finds in a folder: kubelet renews the token there every hour or so."""

    folder: Path

    def namespace(self) -> str:
        """Return the pod's own namespace."""
        return self._read("namespace")

    def token(self) -> str:
        """Return the token as it is now."""
        return self._read("token")

    def authorities(self) -> str:
        """Return the certificates that the API server's own must be signed by, as PEM."""
        return self._read("ca.crt")

    def _read(self, name: str) -> str:
        return (self.folder / name).read_text().strip()


class ClusterApi:
    """Reads objects of the own namespace with the pod's own service account."""

    def __init__(self, url: str, account: Account, metrics: Metrics) -> None:
        try:
            self._tls = ssl.create_default_context(cadata=account.authorities())
            self.namespace = account.namespace()
        except (OSError, ssl.SSLError) as exc:
            raise SettingsError(
                f"FLEET_GATEWAY_KUBERNETES_ACCOUNT: {account.folder} holds no service account "
                f"({type(exc).__name__})"
            ) from None
        # Python 3.13 asks of every certificate what RFC 5280 does; many clusters' own, made earlier, lack an
        # authority key identifier. Signature, name and time are checked all the same.
        self._tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._url = url
        self._account = account
        self._metrics = metrics
        self._http: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Keep connections while the block runs."""
        async with open_client(
            name="kubernetes",
            base_url=self._url,
            timeout_s=_LIST_S,
            retry=RetryPolicy(attempts=1),  # whoever follows the server comes again by itself
            metrics=self._metrics,
            tls=self._tls,
        ) as self._http:
            yield

    async def list(self, kind: Kind) -> tuple[list[Object], str]:
        """Return all objects and the version of the list.

        Raises:
            FleetError: the server is away or refuses.
        """
        async with self._get(kind, {}, timeout_s=_LIST_S) as response:
            body = _parsed(await response.aread())
        return list(body.get("items") or ()), str(body["metadata"]["resourceVersion"])

    @asynccontextmanager
    async def watch(self, kind: Kind, version: str) -> AsyncGenerator[AsyncIterator[Change]]:
        """Yield what changes after `version`, until the server ends the watch after a minute.

        Raises:
            Expired: the server has forgotten that version.
            FleetError: the server is away or refuses.
        """
        asked = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_S),
        }
        async with self._get(kind, asked, timeout_s=_SILENCE_S) as response:
            yield _changes(response)

    @asynccontextmanager
    async def _get(
        self, kind: Kind, query: Mapping[str, str], *, timeout_s: float
    ) -> AsyncGenerator[httpx.Response]:
        if self._http is None:
            raise Unavailable(_API)
        async with self._http.stream(
            "GET",
            f"/{kind.path}/namespaces/{self.namespace}/{kind.plural}",
            params={"labelSelector": kind.label, **query},
            headers={"authorization": f"Bearer {await self._credential()}"},
            timeout=timeout_s,
        ) as response:
            if response.status_code != 200:
                raise _refusal(response.status_code)
            yield response

    async def _credential(self) -> str:
        """Return the token; what kubelet has renewed since the last request, authorities included, holds now."""
        try:
            return await anyio.to_thread.run_sync(self._renewed)
        except (OSError, ssl.SSLError) as exc:
            raise Unavailable("the service account") from exc

    def _renewed(self) -> str:
        self._tls.load_verify_locations(cadata=self._account.authorities())
        return self._account.token()


async def _changes(response: httpx.Response) -> AsyncIterator[Change]:
    async for line in _lines(response):
        event = _parsed(line)
        if event["type"] == "ERROR":
            raise _refusal(int(event["object"].get("code", 500)))
        yield Change(event["type"], event["object"])


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the lines of a body; httpx's own would also break them at characters that JSON may hold."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > _LONGEST_LINE:
            raise UpstreamFailed(f"{_API} sent an endless line")


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(text)
    except ValueError:
        raise UpstreamFailed(f"{_API} sent something that is no JSON") from None
    return body


def _refusal(status: int) -> Exception:
    if status == 410:
        return Expired()
    if status == 429 or status >= 500:
        return Unavailable(_API)
    return UpstreamFailed(f"{_API} answered {status}")
