"""A page far down costs what the first one costs: the index is entered where the page begins."""

from __future__ import annotations

import asyncpg
import pytest

from fleet_data.claims import Caller
from fleet_data.crm.models import FieldDef, Order, Position, Search
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.repository.sql import search_sql
from fleet_data.crm.values import parse_value
from fleet_data.ids import uuid7
from fleet_data.pool import Database

_FILL = """
INSERT INTO store.contacts (tenant, id, last_name, lifecycle, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'L' || n, 'lead', 'x', 'x' FROM generate_series(1, 20000) n
"""


@pytest.mark.parametrize("field", ["id", "updated_at"])
async def test_a_page_is_read_from_the_index_in_order_without_sorting(
    database: Database,
    demo: Caller,
    admin_connection: asyncpg.Connection[asyncpg.Record],
    field: str,
) -> None:
    async with admin_connection.transaction():
        await admin_connection.execute("SET LOCAL session_replication_role = replica")
        await admin_connection.execute(_FILL)
    await admin_connection.execute("ANALYZE store.contacts")
    of = OBJECTS["contact"]
    by: FieldDef = of.fields[field]
    value = "2030-01-01T00:00:00Z" if field == "updated_at" else None
    after = Position(value, str(uuid7()))
    page = Search(of, (of.fields["id"],), Order(by, descending=True), 50, after=after)
    sql, args = search_sql(page, parse_value)
    async with database.reading(demo) as connection:
        rows = await connection.fetch(f"EXPLAIN (COSTS OFF) {sql}", *args)
    plan = "\n".join(row[0] for row in rows)
    assert "Backward" in plan, plan
    assert "Sort" not in plan, plan
    condition = next(line for line in plan.splitlines() if "Index Cond" in line)
    assert field in condition, plan
