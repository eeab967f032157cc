"""The gateway in front of services that it knows by their labels alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import yaml
from yarl import URL

from fleet_common.errors import Unavailable
from fleet_common.metrics import Metrics
from fleet_common.testing import wait_until
from fleet_common.testing.wire import answer, modern
from fleet_gateway.cluster.client import Account, ClusterApi
from fleet_gateway.cluster.models import Found
from fleet_gateway.cluster.service import Cluster
from fleet_gateway.server import SERVICE
from fleet_gateway.settings import Settings


class ApiServer(Protocol):
    """What the fixture `api` gives (see conftest.py)."""

    url: str
    token: str
    is_away: bool

    async def put(self, plural: str, name: str, **content: Any) -> None: ...
    async def delete(self, plural: str, name: str) -> None: ...
    async def cut(self) -> None: ...


class Fleet(Protocol):
    """What the fixture `fleet` gives (see ../conftest.py)."""

    urls: dict[str, str]
    settings: Settings

    def client(self, **headers: str) -> httpx.AsyncClient: ...


@pytest.fixture
def gateway_settings(api: ApiServer, account: Path) -> dict[str, Any]:
    return {
        "registry": "kubernetes",
        "services": (),
        "webhooks": (),
        "kubernetes_url": api.url,
        "kubernetes_account": account,
    }


async def put_pod(api: ApiServer, name: str, url: str) -> None:
    at = URL(url)
    await api.put(
        "endpointslices",
        f"{name}-x",
        labels={"kubernetes.io/service-name": name},
        addressType="IPv4",
        ports=[{"name": "http", "port": at.port}],
        endpoints=[{"addresses": [at.host], "conditions": {"ready": True}, "zone": "a"}],
    )


async def put_service(api: ApiServer, name: str) -> None:
    await api.put(
        "services",
        name,
        labels={"mcp-fleet.dev/service": name},
        spec={"ports": [{"name": "http", "port": 80}]},
    )


async def tools(http: httpx.AsyncClient) -> set[str]:
    listed = answer(await http.post("/mcp", **modern("tools/list")))["result"]["tools"]
    return {tool["name"] for tool in listed if not tool["name"].startswith("fleet_")}


async def echoed(http: httpx.AsyncClient, path: str = "/mcp") -> dict[str, Any]:
    response = await http.post(path, **modern("tools/call", "crm_echo", arguments={"text": "x"}))
    return answer(response)


async def test_a_labelled_service_joins_works_through_an_outage_of_the_api_and_leaves(
    fleet: Fleet, api: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with fleet.client() as http:
        assert await tools(http) == set()
        assert (await http.post("/data/mcp", **modern("tools/list"))).status_code == 404
        await put_pod(api, "data", fleet.urls["data"])
        await put_service(api, "data")

        async def is_listed() -> bool:
            return "crm_echo" in await tools(http)

        await wait_until(is_listed)
        for path in ("/mcp", "/data/mcp", "/data/key/mcp"):
            assert (await echoed(http, path))["result"]["structuredContent"]["text"] == "x"
        status = answer(
            await http.post("/mcp", **modern("tools/call", "fleet_status", arguments={}))
        )
        (service,) = status["result"]["structuredContent"]["services"]
        assert (service["name"], service["zones"]) == ("data", {"a": 1})

        printed = await asyncio.to_thread(SERVICE.commands["routes"], fleet.settings, ["export"])
        assert printed == 0
        first, *_ = yaml.safe_load_all(capsys.readouterr().out)
        assert first["spec"]["rules"][0]["backendRefs"] == [{"name": "data", "port": 80}]

        api.is_away = True
        await api.cut()
        assert "result" in await echoed(http)
        assert (await http.get("/readyz")).status_code == 200

        api.is_away = False
        await api.delete("services", "data")

        async def has_left() -> bool:
            return (await http.post("/data/mcp", **modern("tools/list"))).status_code == 404

        await wait_until(has_left)
        assert await tools(http) == set()
        gone = await echoed(http)
        assert gone["result"]["isError"] or "error" in gone


async def test_who_listens_hears_of_a_service_that_joins_and_leaves(
    fleet: Fleet, api: ApiServer
) -> None:
    request = modern("subscriptions/listen", notifications={"toolsListChanged": True})
    async with (
        fleet.client() as http,
        asyncio.timeout(9),
        http.stream("POST", "/mcp", **request) as response,
    ):
        lines = response.aiter_lines()  # a second iterator would find the stream consumed

        async def hears(method: str) -> None:
            while f'"{method}"' not in await anext(lines):
                pass

        await hears("notifications/subscriptions/acknowledged")
        await put_pod(api, "data", fleet.urls["data"])
        await put_service(api, "data")
        await hears("notifications/tools/list_changed")
        assert "crm_echo" in await tools(http)
        await api.delete("services", "data")
        await hears("notifications/tools/list_changed")
        assert await tools(http) == set()


async def test_until_it_saw_the_cluster_once_the_gateway_is_not_ready(
    api: ApiServer, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_gateway.cluster.service._FIRST_LOOK_S", 0.05)
    monkeypatch.setattr("fleet_gateway.cluster.mirror._LONGEST_PAUSE_S", 0.1)
    applied: list[Mapping[str, Found]] = []
    metrics = Metrics("gateway")
    client = await asyncio.to_thread(ClusterApi, api.url, Account(account), metrics)
    cluster = Cluster(client, applied.append, metrics)
    api.token = "another"
    async with cluster.watching():
        with pytest.raises(Unavailable):
            await cluster.seen()
        assert applied == []
        api.token = "first"

        async def is_seen() -> bool:
            return bool(applied)

        await wait_until(is_seen)
        await cluster.seen()
        api.is_away = True
        await cluster.seen()
