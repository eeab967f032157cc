"""The cluster's API through kubernetes.aio, against a server that speaks its protocol."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet_common.errors import (
    FleetError,
    InvalidInput,
    NotFound,
    PermissionDenied,
    RateLimited,
    Unavailable,
    UpstreamFailed,
)
from fleet_common.metrics import Metrics
from fleet_common.settings import ServiceSettings
from fleet_common.testing.certificates import Authority, authority
from fleet_common.testing.collector import collector
from fleet_common.tracing import Tracing
from fleet_devops.cluster.client import KubeClient, error_for
from fleet_devops.errors import BadKubeconfig, CredentialRejected, NoCluster

if TYPE_CHECKING:
    from services.devops.tests.cluster.conftest import TableServer

JSON = "application/json"
POD = "/api/v1/namespaces/team-a/pods/pod-0"


async def get(client: KubeClient) -> bytes:
    return await client.get(POD, accept=JSON, kind="Pod", key="pod-0")


async def test_requests_carry_the_credential_of_the_kubeconfig(
    client: KubeClient, api: TableServer
) -> None:
    assert b'"name": "pod-0"' in await get(client)

    assert list(api)[-1].headers["Authorization"] == "Bearer kube-token"


async def test_a_request_is_a_span_that_names_no_object(
    client: KubeClient, api: TableServer
) -> None:
    async with collector() as spans:
        tracing = Tracing(ServiceSettings(tracing_endpoint=spans.url), Metrics("devops"), "1")
        async with tracing.opened():
            with tracing.request(None, "POST", {}):
                await get(client)
    asked, served = spans.spans
    assert asked.parent_id == served.span_id
    assert asked.attributes == {
        "http.request.method": "GET",
        "peer.service": "kubernetes",
        "http.response.status_code": 200,
    }
    sent = b"".join(spans.raw)
    assert b"pod-0" not in sent
    assert b"kube-token" not in sent


async def test_without_a_kubeconfig_and_outside_a_cluster_there_is_no_cluster() -> None:
    async with KubeClient.open(kubeconfig=None, context=None, timeout_s=1) as client:
        with pytest.raises(NoCluster, match=r"^not_configured: no cluster configured\. "):
            await get(client)


@pytest.fixture
def old(tmp_path: Path) -> Authority:
    """Return what an old cluster certifies itself with."""
    return authority(tmp_path)


async def test_certificates_of_old_clusters_lack_what_python_asks_for_and_are_good_enough(
    old: Authority, kubeconfig_for: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have no authority key identifier, and Python 3.13 is as strict as the patch here makes any Python."""
    usual = ssl.create_default_context

    def strict(*args: Any, **named: Any) -> ssl.SSLContext:
        context = usual(*args, **named)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    monkeypatch.setattr(ssl, "create_default_context", strict)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=old.server) as server:
        port = server.sockets[0].getsockname()[1]
        ca = base64.b64encode(old.pem.encode()).decode()
        place = kubeconfig_for(f"https://127.0.0.1:{port}", **{"certificate-authority-data": ca})
        async with KubeClient.open(kubeconfig=place, context=None, timeout_s=8) as client:
            assert await get(client) == b"{}"


@pytest.mark.parametrize("text", ["", "not: a kubeconfig", "{"])
async def test_a_broken_kubeconfig_names_the_setting(tmp_path: Path, text: str) -> None:
    broken = tmp_path / "kubeconfig"
    broken.write_text(text)
    async with KubeClient.open(kubeconfig=broken, context=None, timeout_s=1) as client:
        with pytest.raises(BadKubeconfig, match="FLEET_DEVOPS_KUBECONFIG"):
            await get(client)


async def test_an_unknown_context_names_the_setting(kubeconfig: Path) -> None:
    async with KubeClient.open(kubeconfig=kubeconfig, context="other", timeout_s=1) as client:
        with pytest.raises(BadKubeconfig):
            await get(client)


async def test_a_cluster_that_is_away_is_unavailable(
    kubeconfig_for: Callable[..., Path],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    away = kubeconfig_for(f"http://127.0.0.1:{port}")
    async with KubeClient.open(kubeconfig=away, context=None, timeout_s=1) as client:
        with pytest.raises(Unavailable):
            await get(client)


async def test_an_expired_credential_is_loaded_again_once(
    client: KubeClient, api: TableServer
) -> None:
    api["get", POD] << 401 << {"kind": "Status", "message": "Unauthorized"}

    with pytest.raises(CredentialRejected):
        await get(client)

    assert len(list(api)) == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidInput),
        (403, PermissionDenied),
        (404, NotFound),
        (410, InvalidInput),
        (422, InvalidInput),
        (429, RateLimited),
        (500, Unavailable),
        (503, Unavailable),
        (418, UpstreamFailed),
    ],
)
def test_refusals_become_coded_errors(status: int, error: type[FleetError]) -> None:
    body = b'{"kind": "Status", "message": "said", "reason": "Because"}'
    found = error_for(status, body, kind="Pod", key="p", retry_after_s=None)

    assert type(found) is error


def test_the_clusters_own_words_explain_a_bad_selector() -> None:
    body = b'{"kind": "Status", "message": "unable to parse requirement"}'
    found = error_for(400, body, kind="Pod", key="p", retry_after_s=None)

    assert "unable to parse requirement" in str(found)
    assert "no reason given" in str(error_for(400, b"", kind="P", key="p", retry_after_s=None))


def test_a_busy_cluster_says_when_to_come_back() -> None:
    found: Any = error_for(429, b"{}", kind="Pod", key="p", retry_after_s=5.0)

    assert found.retry_after_s == 5.0
