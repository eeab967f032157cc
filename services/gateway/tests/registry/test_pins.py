"""Pins in Redis, in a file and in memory keep the same promises."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from fleet_common.errors import NotFound
from fleet_common.redis import create_redis
from fleet_gateway.registry.pins import Definition, FilePins, PinStore, RedisPins

ONE = Definition("1", "crm_get")
TWO = Definition("2", "crm_get")
OTHER = Definition("1", "crm_find")


@pytest.fixture(params=["memory", "file", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[PinStore]:
    if request.param == "redis":
        redis = create_redis(request.getfixturevalue("redis_url"))
        yield RedisPins(redis)
        await redis.aclose(close_connection_pool=True)
    else:
        yield FilePins(tmp_path / "pins.json" if request.param == "file" else None)


@pytest.fixture
def service() -> str:
    return f"data-{secrets.token_hex(4)}"


async def test_the_first_sight_pins_a_definition(store: PinStore, service: str) -> None:
    pins = await store.judge(service, {ONE: "a", OTHER: "x"})
    assert pins.held == {}
    assert pins.allows("crm_get", "a")
    assert not pins.allows("crm_get", "b")
    assert pins.allows("crm_new", "n")


async def test_another_definition_in_the_same_version_is_held(
    store: PinStore, service: str
) -> None:
    await store.judge(service, {ONE: "a", OTHER: "x"})
    pins = await store.judge(service, {ONE: "b", OTHER: "x"})
    assert pins.held == {ONE: "b"}
    assert not pins.allows("crm_get", "b")
    assert (await store.known())[service].held == {ONE: "b"}
    back = await store.judge(service, {ONE: "a", OTHER: "x"})
    assert back.held == {}


async def test_a_new_version_may_change_it_and_the_old_one_may_come_back(
    store: PinStore, service: str
) -> None:
    await store.judge(service, {ONE: "a"})
    pins = await store.judge(service, {TWO: "b"})
    assert pins.held == {}
    assert pins.allows("crm_get", "b")
    assert (await store.judge(service, {ONE: "a"})).held == {}


async def test_an_accepted_definition_is_pinned_in_place_of_the_old_one(
    store: PinStore, service: str
) -> None:
    await store.judge(service, {ONE: "a"})
    await store.judge(service, {ONE: "b"})
    await store.accept(service, "crm_get")
    pins = await store.judge(service, {ONE: "b"})
    assert pins.held == {}
    assert pins.allows("crm_get", "b")
    assert (await store.judge(service, {ONE: "a"})).held == {ONE: "a"}


async def test_what_is_not_held_cannot_be_accepted(store: PinStore, service: str) -> None:
    await store.judge(service, {ONE: "a"})
    with pytest.raises(NotFound, match="held definition of crm_get"):
        await store.accept(service, "crm_get")


async def test_pins_in_a_file_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "state" / "pins.json"
    await FilePins(path).judge("data", {ONE: "a"})
    assert (await FilePins(path).judge("data", {ONE: "b"})).held == {ONE: "b"}
    assert json.loads(path.read_text())["data"]["pinned"] == {"1\x1fcrm_get": "a"}
