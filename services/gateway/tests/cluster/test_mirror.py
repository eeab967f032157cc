from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

# By name: the package imports them lazily, and that would count as the test's own time.
from kubernetes.aio.client import ApiClient, Configuration, CoreV1Api
from kubernetes.aio.watch import Watch

from fleet_common.background import background
from fleet_common.metrics import Metrics
from fleet_common.testing import wait_until
from fleet_gateway.cluster import mirror as mirror_module
from fleet_gateway.cluster.client import Account, ClusterApi
from fleet_gateway.cluster.mirror import Mirror, MirrorMetrics
from fleet_gateway.cluster.models import SERVICE, SERVICES


class ApiServer(Protocol):
    """What the fixture `api` gives (see conftest.py)."""

    url: str
    token: str
    lists: dict[str, int]
    watches: dict[str, int]
    is_away: bool
    gone_status: int
    version: int

    async def put(self, plural: str, name: str, **content: Any) -> None: ...
    async def delete(self, plural: str, name: str) -> None: ...
    async def bookmark(self) -> None: ...
    async def forget(self) -> None: ...
    async def cut(self) -> None: ...
    def state(self, plural: str, selector: str = "") -> dict[str, dict[str, Any]]: ...


class World:
    """A mirror that follows the server."""

    def __init__(self, server: ApiServer, mirror: Mirror, metrics: Metrics) -> None:
        self.server = server
        self.mirror = mirror
        self._metrics = metrics

    async def agree(self) -> None:
        async def same() -> bool:
            return self.mirror.objects == self.server.state("services", SERVICE)

        await wait_until(same)

    async def watched(self, times: int) -> None:
        async def often_enough() -> bool:
            return self.server.watches["services"] >= times

        await wait_until(often_enough)

    async def becomes(self, current: float) -> None:
        async def is_so() -> bool:
            # In a thread: the process collector reads /proc.
            value = await asyncio.to_thread(
                self._metrics.registry.get_sample_value,
                "mcp_gateway_cluster_current",
                {"service": "gateway", "kind": "services"},
            )
            return value == current

        await wait_until(is_so)


@pytest.fixture
async def world(
    api: ApiServer, account: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[World]:
    # Long enough that the client's breaker does not open while the server is away.
    monkeypatch.setattr(mirror_module, "_FIRST_PAUSE_S", 0.1)
    monkeypatch.setattr(mirror_module, "_LONGEST_PAUSE_S", 0.2)
    async with following(api, account) as world:
        yield world


@asynccontextmanager
async def following(server: ApiServer, account: Path) -> AsyncGenerator[World]:
    metrics = Metrics("gateway")
    api = await asyncio.to_thread(ClusterApi, server.url, Account(account), metrics)
    mirror = Mirror(api, SERVICES, lambda: None, MirrorMetrics(metrics))
    async with api.opened(), background(mirror.follow(), name="follow"):
        async with asyncio.timeout(5):
            await mirror.filled.wait()
        world = World(server, mirror, metrics)
        await world.watched(1)
        yield world


async def put(server: ApiServer, name: str, **labels: str) -> None:
    await server.put("services", name, labels=labels, spec={"ports": []})


OURS = {SERVICE: "data"}


async def test_what_comes_changes_and_goes_is_followed_from_one_list(world: World) -> None:
    server = world.server
    await put(server, "data", **OURS)
    await put(server, "foreign")
    await world.agree()
    await put(server, "data", **{SERVICE: "crm"})
    await put(server, "foreign", **OURS)
    await world.agree()
    await put(server, "foreign")  # loses the label: for us it is gone
    await server.delete("services", "data")
    await world.agree()
    assert world.mirror.objects == {}
    assert server.lists["services"] == 1


async def test_a_character_that_httpx_takes_for_the_end_of_a_line_is_none(world: World) -> None:
    note = "one\x85two\u2028three\x0bfour"
    await world.server.put("services", "data", labels=OURS, annotations={"note": note}, spec={})
    await world.agree()
    assert world.mirror.objects["data"]["metadata"]["annotations"]["note"] == note


async def test_a_watch_that_ends_goes_on_from_the_last_event(world: World) -> None:
    await put(world.server, "data", **OURS)
    await world.agree()
    await world.server.cut()
    await put(world.server, "crm", **OURS)
    await world.agree()
    assert world.server.lists["services"] == 1


async def test_a_bookmark_saves_a_list_where_nothing_of_ours_has_changed(world: World) -> None:
    for number in range(3):
        await put(world.server, f"foreign-{number}")
    await world.server.bookmark()
    await put(world.server, "data", **OURS)  # seen after the bookmark, which it proves to be read
    await world.agree()
    await world.server.bookmark()
    await put(world.server, "foreign")
    await world.server.forget()
    await world.server.bookmark()

    async def is_read() -> bool:
        return world.mirror._version == str(world.server.version)

    await wait_until(is_read)
    await world.server.cut()
    await world.watched(2)
    await put(world.server, "crm", **OURS)
    await world.agree()
    assert world.server.lists["services"] == 1


@pytest.mark.parametrize("gone_status", [200, 410], ids=["in the stream", "as the status"])
async def test_a_forgotten_version_means_a_new_list(world: World, gone_status: int) -> None:
    server = world.server
    server.gone_status = gone_status
    await put(server, "data", **OURS)
    await world.agree()
    server.is_away = True
    await server.cut()
    await server.delete("services", "data")
    await put(server, "crm", **OURS)
    await server.forget()
    server.is_away = False
    await world.agree()
    assert server.lists["services"] == 2


async def test_while_the_server_is_away_the_copy_stays_and_the_gauge_says_so(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await put(world.server, "data", **OURS)
    await world.agree()
    await world.becomes(1)
    world.server.is_away = True
    await world.server.cut()
    await world.becomes(0)
    assert set(world.mirror.objects) == {"data"}
    assert "cluster_unavailable" in capsys.readouterr().err
    await put(world.server, "crm", **OURS)
    world.server.is_away = False
    await world.agree()
    await world.becomes(1)


async def test_a_renewed_token_is_used_and_an_old_one_is_not_a_reason_to_give_up(
    world: World, account: Path
) -> None:
    world.server.token = "second"
    await world.server.cut()
    await world.becomes(0)
    await asyncio.to_thread((account / "token").write_text, "second\n")
    await put(world.server, "data", **OURS)
    await world.agree()


async def test_after_any_history_the_copy_is_what_the_official_client_lists_and_watches(
    world: World,
) -> None:
    server, chance = world.server, random.Random(7)
    for step in range(40):
        name = f"s{chance.randrange(6)}"
        match chance.randrange(8):
            case 0 if name in server.state("services"):
                await server.delete("services", name)
            case 1:
                await server.cut()
            case 2:
                await server.bookmark()
            case _:
                await put(server, name, **(OURS if chance.random() < 0.7 else {}))
        if step % 7 == 0:
            await asyncio.sleep(0.01)
    await put(server, "last", **OURS)
    await world.agree()
    async with official(server) as core:
        # Any: every field of the client's models may be None for its types.
        listed: Any = await core.list_namespaced_service("team", label_selector=SERVICE)
        seen = await replayed(core)
    assert {i.metadata.name: i.metadata.resource_version for i in listed.items} == seen
    assert seen == {
        name: item["metadata"]["resourceVersion"] for name, item in world.mirror.objects.items()
    }


@asynccontextmanager
async def official(server: ApiServer) -> AsyncGenerator[CoreV1Api]:
    configuration = Configuration(host=server.url)
    configuration.verify_ssl = False
    configuration.api_key = {"authorization": f"Bearer {server.token}"}
    async with ApiClient(configuration) as client:
        yield CoreV1Api(client)


async def replayed(core: CoreV1Api) -> dict[str, str]:
    """Return the versions by name that the official client's watch from the beginning knows when `last` appears."""
    known: dict[str, str] = {}
    # Any: the client's watch has no types.
    watch: Any = Watch()  # type: ignore[no-untyped-call]
    asked = watch.stream(
        core.list_namespaced_service,
        "team",
        label_selector=SERVICE,
        resource_version="1",
        allow_watch_bookmarks=True,
        timeout_seconds=8,
    )
    async with asked as events:
        async for event in events:
            raw = event["raw_object"]
            if event["type"] == "DELETED":
                del known[raw["metadata"]["name"]]
            elif event["type"] != "BOOKMARK":
                known[raw["metadata"]["name"]] = raw["metadata"]["resourceVersion"]
            if "last" in known:
                break
    return known
