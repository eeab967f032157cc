"""A page far down: what crm_search asks for at row 900,000 of a million, as the reader, under row security."""

from __future__ import annotations

import json
from typing import Any

import asyncpg

from fleet_data.claims import Caller, ClaimSigner
from fleet_data.crm.models import Order, Position, Search
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.repository.sql import search_sql
from fleet_data.crm.values import parse_value
from fleet_data.pool import Database, Limits, open_pool
from fleet_data.settings import Settings

ROWS, AT, TURNS = 1_000_000, 900_000, 20
WHO = Caller("bench", "bench")
# As the superuser and without triggers: what is measured comes after.
FILL = f"""
SET session_replication_role = replica;
TRUNCATE store.contacts CASCADE;
INSERT INTO store.contacts (tenant, id, first_name, last_name, email, lifecycle, created_by, updated_by)
SELECT 'bench', gen_random_uuid(), 'First' || g % 999, 'Last' || g, 'somebody' || g || '@example.com', 'lead',
    'bench', 'bench'
FROM generate_series(1, {ROWS}) g;
RESET session_replication_role;
"""


async def page_ms(settings: Settings) -> float:
    """Return the milliseconds the server takes for the page, the best of some turns."""
    admin = await asyncpg.connect(
        settings.migrator_url.get_secret_value() if settings.migrator_url else ""
    )
    await admin.execute(FILL)
    await admin.execute("VACUUM ANALYZE store.contacts")
    at = await admin.fetchval(f"SELECT id FROM store.contacts ORDER BY id DESC OFFSET {AT} LIMIT 1")
    await admin.close()
    of = OBJECTS["contact"]
    listed = tuple(field for field in of.fields.values() if field.listed)
    page = Search(
        of, listed, Order(of.fields["id"], descending=True), 50, after=Position(None, str(at))
    )
    sql, args = search_sql(page, parse_value)
    signer = ClaimSigner(settings.claims_key.get_secret_value())
    took: list[float] = []
    async with open_pool(settings.reader_url.get_secret_value(), size=1) as pool:
        database = Database(pool, pool, signer=signer, limits=Limits(statement_s=60, wait_s=5))
        for _ in range(TURNS):
            async with database.reading(WHO) as connection:
                told: Any = await connection.fetchval(
                    f"EXPLAIN (ANALYZE, FORMAT json) {sql}", *args
                )
            plan = (json.loads(told) if isinstance(told, str) else told)[0]
            took.append(plan["Planning Time"] + plan["Execution Time"])
    return round(min(took), 3)
