"""Other people's databases through the tools: reached by policy, judged by privilege, reset after each call."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError
from mcp_types import TextResourceContents
from pydantic import ValidationError

from fleet_common.auth import Principal
from fleet_common.testing import admin
from fleet_data.databases.commands import databases_command
from fleet_data.databases.standing import standing_of
from fleet_data.schema.privileges import RolePrivileges
from fleet_data.settings import Settings

Connect = Callable[..., AbstractAsyncContextManager[Client[Any]]]

MADE = """
CREATE SCHEMA reporting;
CREATE TABLE reporting.orders (id int PRIMARY KEY, total numeric NOT NULL CHECK (total >= 0));
COMMENT ON TABLE reporting.orders IS 'What was sold';
COMMENT ON COLUMN reporting.orders.total IS 'in euros';
CREATE INDEX ON reporting.orders (total);
INSERT INTO reporting.orders SELECT g, g * 10 FROM generate_series(1, 50) g;
CREATE TABLE reporting.salaries (id int);
DROP ROLE IF EXISTS data_reporter;
CREATE ROLE data_reporter LOGIN PASSWORD 'secret-of-reporter';
GRANT USAGE ON SCHEMA reporting TO data_reporter;
GRANT SELECT ON reporting.orders TO data_reporter;
GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint), pg_sleep TO data_reporter;
"""


@pytest.fixture
async def two(
    settings: Settings, admin_url: str, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> AsyncGenerator[Settings]:
    """Settings with a narrow database and one whose role is a superuser."""
    await admin_connection.execute(MADE)
    where = urlsplit(admin_url)
    narrow = f"postgresql://data_reporter:secret-of-reporter@{where.hostname}:{where.port}{where.path}?sslmode=disable"
    wide = f"{admin_url.partition('?')[0]}?sslmode=disable"
    text = json.dumps({"warehouse": narrow, "boss": wide})
    yield Settings.model_validate({**settings.model_dump(), "databases": text})
    await admin_connection.execute("DROP OWNED BY data_reporter")


def shown(result: Any) -> Any:
    return json.loads(result.content[0].text)


async def test_narrow_database_is_described_queried_and_explained(
    connect: Connect, two: Settings
) -> None:
    async with connect(settings=two) as client:

        async def call(tool: str, **arguments: Any) -> Any:
            return shown(await client.call_tool(tool, {"database": "warehouse", **arguments}))

        names = await call("db_schema")
        assert [row[:2] for row in names["rows"]] == [["reporting.orders", "table"]]
        assert names["databases"] == ["crm", "warehouse", "boss"]
        missing = " ".join(names["protections_missing"])
        assert "there are no tenants" in missing
        assert "pg_advisory_lock, pg_sleep" in missing
        full = (await call("db_schema", pattern="reporting.*", detail="full"))["rows"][0]
        assert full[4] == "id integer not null, total numeric not null (in euros)"
        assert any("CHECK" in each for each in full[5])
        assert any("(total)" in each for each in full[6])
        answer = await call(
            "db_query", sql="SELECT max(total) FROM reporting.orders WHERE id < $1", params=[10]
        )
        assert answer["rows"] == [[90]]
        plan = await call(
            "db_explain", sql="SELECT * FROM reporting.orders WHERE id = $1", params=[1]
        )
        assert "orders" in " ".join(plan["steps"])
        for refused in ("SELECT * FROM reporting.salaries", "SELECT pg_advisory_lock(1)"):
            with pytest.raises(ToolError, match=r"^permission_denied"):
                await call("db_query", sql=refused)


async def test_over_privileged_and_unknown_databases_are_refused(
    connect: Connect, two: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    async with connect(settings=two) as client:
        with pytest.raises(ToolError, match=r"postgres \(database boss\) has too many.*superuser"):
            await client.call_tool("db_query", {"sql": "SELECT 1", "database": "boss"})
        with pytest.raises(ToolError, match=r"^not_found: database x not found"):
            await client.call_tool("db_query", {"sql": "SELECT 1", "database": "x"})


async def test_roles_reach_only_the_databases_their_policy_names(
    connect: Connect, two: Settings
) -> None:
    viewer: Principal = replace(admin(), roles=frozenset({"viewer"}))
    async with connect(viewer, settings=two) as client:
        assert shown(await client.call_tool("db_schema", {}))["databases"] == ["crm"]
        with pytest.raises(ToolError, match=r"^not_found.*There are: crm"):
            await client.call_tool("db_query", {"sql": "SELECT 1", "database": "warehouse"})
        table = (await client.read_resource("db://schema/deals"))[0]
        assert isinstance(table, TextResourceContents)
        assert json.loads(table.text)["relation"] == "crm.deals"


def test_command_says_what_is_refused_and_what_is_missing(
    two: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert databases_command(two, []) == 1
    said = capsys.readouterr().out
    assert "warehouse: role data_reporter" in said
    assert "missing: temp_file_limit" in said
    assert "boss: role postgres\n  refused because of superuser" in said
    assert "secret-of-reporter" not in f"{said}{two!r}"


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"crm": "postgresql://x"}', '{"No": "postgresql://x"}']
)
def test_wrong_setting_stops_the_start(settings: Settings, text: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({**settings.model_dump(), "databases": text})


def test_what_cannot_be_revoked_is_missing_and_what_can_is_refused() -> None:
    found = ("write:public.a", "temporary:database", "create:public", "execute:pg_sleep")
    standing = standing_of(RolePrivileges("r", 15, found, frozenset({"pg_sleep"})))
    assert standing.refused == ["write:public.a"]
    assert len(standing.missing) == 4
