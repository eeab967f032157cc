"""The plugin that lends engines to every package's tests."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import asyncpg
import pytest

from fleet_cli import testing
from fleet_cli.processes import Child, ProcessRecord
from fleet_cli.testing import PostgresServer

pytestmark = pytest.mark.timeout(60)


async def fetch(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_a_database_is_made_from_a_template(postgres_server: PostgresServer) -> None:
    template = postgres_server.create_database('odd "name"')
    await fetch(template, "CREATE TABLE lamps AS SELECT 7 AS price")

    url = postgres_server.create_database("copy", template='odd "name"')

    assert await fetch(url, "SELECT price FROM lamps") == 7
    postgres_server.drop_database("copy")
    postgres_server.drop_database('odd "name"')
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await fetch(url, "SELECT 1")


async def test_dropping_ends_whoever_is_connected(postgres_server: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres_server.create_database("busy"))

    postgres_server.drop_database("busy")

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.fetchval("SELECT 1")
    connection.terminate()


async def test_the_extensions_we_rely_on_are_there(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("extended")

    for name in ("vector", "pg_trgm"):
        await fetch(url, f"CREATE EXTENSION {name}")

    assert await fetch(url, "SELECT count(*) FROM pg_extension") == 3
    postgres_server.drop_database("extended")


def test_valkey_is_lent_under_both_names(valkey_url: str, redis_url: str) -> None:
    assert valkey_url.startswith("redis://")
    assert redis_url == valkey_url


def test_what_a_killed_test_run_left_is_swept(spawn: Callable[..., Child]) -> None:
    engine = spawn("import time; time.sleep(60)")
    us = ProcessRecord.of(os.getpid())
    assert us is not None
    left = Path(tempfile.mkdtemp(prefix="fleet-test-left-"))
    facts = {
        "owner": asdict(replace(us, started=us.started - 3600)),
        "engine": asdict(engine.record),
        "stop_signal": int(signal.SIGTERM),
    }
    (left / "owner.json").write_text(json.dumps(facts))

    testing._sweep()

    assert engine.popen.wait(5) == -signal.SIGTERM
    assert not left.exists()


def test_the_engines_of_a_run_that_goes_on_are_left_alone(spawn: Callable[..., Child]) -> None:
    engine = spawn("import time; time.sleep(60)")
    ours = Path(tempfile.mkdtemp(prefix="fleet-test-ours-"))
    testing._write_owner(ours, engine, signal.SIGTERM)
    try:
        testing._sweep()

        assert engine.is_alive
    finally:
        (ours / "owner.json").unlink()
        ours.rmdir()
