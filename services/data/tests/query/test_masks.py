"""SQL of a caller from whom fields are masked: it shows none of them, by no expression and through no door."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from fleet_common.errors import FleetError, PermissionDenied
from fleet_data.claims import Caller
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.service import Crm
from fleet_data.crm.values import parse_value
from fleet_data.pool import Database
from fleet_data.query.repository import QueryRepository
from fleet_data.query.service import Queries
from fleet_data.settings import Settings
from fleet_data.testing.attacks import ATTACKS
from fleet_data.transfer.copying import Copier
from fleet_data.transfer.models import ExportRequest
from fleet_data.transfer.sources import source_of

MARK = "zebra"
MASKS = frozenset({"email", "contact.x_secret", "lead.score", "deal.stage"})
NOT_MASKED = {"sync_issues"}
PLANTED = """
INSERT INTO store.users (tenant, id, name, email) VALUES ('demo', gen_random_uuid(), 'U', 'zebra@u.example');
INSERT INTO store.consents (tenant, id, address, channel, purpose, state, decided_at, created_by, updated_by)
VALUES ('demo', gen_random_uuid(), 'zebra@example.com', 'email', 'marketing', 'granted', now(), 't', 't');
INSERT INTO store.suppressions (tenant, id, address, channel, reason, created_by, updated_by)
VALUES ('demo', gen_random_uuid(), 'zebra@example.com', 'email', 'manual', 't', 't');
INSERT INTO store.sync_issues (tenant, source, object, kind, fields, message)
VALUES ('demo', 'hubspot', 'contact', 'conflict', '{"email": ["zebra@example.com", "b"]}', 'm');
INSERT INTO store.segments (tenant, id, name, object, kind, created_by, updated_by)
VALUES ('demo', '00000000-0000-7000-8000-00000000000a', 'S', 'contact', 'static', 't', 't');
INSERT INTO store.campaigns (tenant, id, name, segment_id, from_name, subject, body, created_by, updated_by)
SELECT 'demo', '00000000-0000-7000-8000-00000000000b', 'C', id, 'f', 's', 'b', 't', 't' FROM store.segments;
INSERT INTO store.campaign_recipients (tenant, id, campaign_id, contact_id, email)
SELECT 'demo', gen_random_uuid(), '00000000-0000-7000-8000-00000000000b', id, email FROM store.contacts;
"""
RELATIONS = "contacts users consents suppressions campaign_recipients leads".split()  # noqa: SIM905
ATTEMPTS = [
    *(
        f"SELECT * FROM {schema}{name}"
        for name in RELATIONS
        for schema in ("", "masked.", "crm.", "store.")
    ),
    *(f"SELECT {row} FROM {name} r" for name in RELATIONS for row in ("row_to_json(r)", "r::text")),
    *r"""
SELECT email FROM contacts
SELECT c.email FROM contacts c
SELECT (c).email FROM contacts c
SELECT (c).* FROM contacts c
SELECT to_jsonb(c) FROM contacts c
SELECT hstore(c) FROM contacts c
SELECT json_agg(c) FROM contacts c
SELECT array_agg(email) FROM contacts
SELECT string_agg(email, ',') FROM contacts
SELECT max(email), min(email) FROM contacts
SELECT email::int FROM contacts
SELECT email::date FROM contacts
SELECT * FROM contacts WHERE email::int = 1
SELECT * FROM contacts WHERE 1 / (length(email) - length(email)) = 1
SELECT c::text::int FROM contacts c
SELECT ('(' || email) ~ email FROM contacts
SELECT regexp_matches(c::text, '.*') FROM contacts c
SELECT coalesce(email, c::text) FROM contacts c
SELECT email FROM contacts c NATURAL JOIN leads
TABLE contacts
VALUES ((SELECT email FROM contacts LIMIT 1))
WITH x AS (TABLE contacts) SELECT email FROM x
SELECT * FROM (SELECT * FROM contacts) x
SELECT x.* FROM contacts c, LATERAL (SELECT c.*) x
SELECT unnest(ARRAY(SELECT email FROM contacts))
SELECT email FROM crm.contacts
SELECT to_jsonb(c) FROM crm.contacts c
SELECT count(email) FROM crm.contacts
SELECT 1 FROM crm.contacts WHERE email LIKE 'z%'
SELECT * FROM contacts m JOIN crm.contacts c USING (id)
SELECT "email" FROM "crm"."contacts"
SELECT * FROM U&"\0063rm".contacts
SELECT * FROM ONLY crm.contacts
SELECT email FROM store.contacts
SELECT * FROM crm.sync_issues
SELECT * FROM sync_issues
SELECT before FROM store.change_log
SELECT props FROM contacts
SELECT props ->> 'x_secret' FROM contacts
SELECT jsonb_each_text(props) FROM contacts
SELECT most_common_vals::text FROM pg_stats WHERE tablename = 'contacts'
SELECT histogram_bounds::text FROM pg_stats
SELECT set_config('role', 'crm_reader', true), (SELECT email FROM contacts LIMIT 1)
SELECT set_config('role', 'none', false)
SELECT set_config('app.claims', '', true)
SET ROLE crm_reader
RESET ROLE
SELECT set_config('search_path', 'crm', true)
SELECT query_to_xml('SELECT email FROM crm.contacts', true, true, '')
SELECT * FROM ts_stat('SELECT to_tsvector(email) FROM crm.contacts')
SELECT authz.masks()
SELECT authz.hides('{email}')
SELECT authz.mask_view('contacts', 'nothing')
SELECT authz.hidden('contact')
SELECT current_setting('app.claims')
SELECT pg_get_viewdef('masked.contacts'::regclass)
SELECT similarity(email, 'zebra@example.com') FROM contacts
SELECT 1) q; RESET ROLE; SELECT * FROM (SELECT 1
SELECT 1; RESET ROLE; SELECT email FROM crm.contacts
""".strip().splitlines(),
]
Door = Callable[[Caller, str], Awaitable[object]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"query_timeout_s": 0.15})


@pytest.fixture
async def masked(
    crm: Crm,
    demo: Caller,
    database: Database,
    admin_connection: asyncpg.Connection[asyncpg.Record],
) -> Caller:
    await crm.upsert(
        demo, "property", [{"object": "contact", "name": n} for n in ("x_secret", "x_open")]
    )
    person = {"last_name": "L", "email": f"{MARK}@example.com", "x_secret": MARK, "x_open": "shown"}
    await crm.upsert(demo, "contact", [person])
    await crm.upsert(demo, "lead", [{"name": "L", "email": f"{MARK}@lead.example"}])
    await crm.upsert(demo, "deal", [{"name": "D", "amount": 7}])
    async with database.writing(demo) as connection:
        await connection.execute(PLANTED)
    await admin_connection.execute("ANALYZE store.contacts, store.consents")
    return replace(demo, masks=MASKS)


@pytest.fixture
def doors(database: Database) -> dict[str, Door]:
    queries, copier = Queries(QueryRepository(database)), Copier(database)
    known = CrmRepository(database, parse=parse_value)

    async def export(caller: Caller, sql: str) -> object:
        file = io.BytesIO()

        async def sink(rows: bytes) -> None:
            file.write(rows)

        source = await source_of(known, caller, ExportRequest("csv", sql=sql, max_rows=100))
        await copier.copy(caller, source, "csv", sink)
        return file.getvalue().decode()

    return {"query": queries.run, "explain": queries.explain, "export": export}


@pytest.mark.parametrize("name", ["query", "explain", "export"])
async def test_no_sql_shows_a_masked_field(
    masked: Caller, demo: Caller, doors: dict[str, Door], name: str
) -> None:
    door = doors[name]
    assert name == "explain" or MARK in str(await door(demo, "SELECT email FROM crm.contacts"))
    for sql in [*ATTEMPTS, *(each.sql for each in ATTACKS if each.kind == "reading")]:
        try:
            shown = str(await door(masked, sql))
        except FleetError as exc:
            shown = f"{exc.message} {exc.hint}"
        assert MARK not in shown.replace(sql, ""), (sql, shown)


async def test_masked_fields_are_null_and_the_others_as_they_are(
    masked: Caller, demo: Caller, doors: dict[str, Door]
) -> None:
    async def rows(sql: str, caller: Caller = masked) -> Any:
        answer: Any = await doors["query"](caller, sql)
        return answer.rows

    assert await rows("SELECT last_name, email, props FROM contacts") == [
        ["L", None, {"x_open": "shown"}]
    ]
    assert await rows("SELECT name, amount, stage FROM masked.deals") == [["D", 7, None]]
    assert await rows("SELECT stage FROM deal_stage_history") == [[None]]
    assert await rows("SELECT name, email, score FROM leads") == [["L", None, None]]
    assert await rows("SELECT address, purpose FROM consents") == [[None, "marketing"]]
    assert await rows("SELECT email, state FROM campaign_recipients") == [[None, "queued"]]
    one = replace(demo, masks=frozenset({"lead.email"}))
    assert await rows("SELECT email FROM contacts", one) == [[f"{MARK}@example.com"]]
    assert await rows("SELECT address FROM consents", one) == [[None]]
    assert await rows("SELECT count(*) FROM contacts", replace(masked, tenant="other")) == [[0]]
    with pytest.raises(PermissionDenied, match="permission denied for view contacts") as refused:
        await rows("SELECT last_name FROM crm.contacts")
    assert "masked.contacts" in (refused.value.hint or "")
    # The next caller on the connection is nobody's role but its own.
    assert await rows("SELECT email FROM crm.contacts", demo) == [[f"{MARK}@example.com"]]


async def test_every_view_is_masked_column_by_column_or_left_out_on_purpose(
    masked: Caller, database: Database, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    columns = (
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relkind = 'v' AND c.relnamespace = $1::text::regnamespace"
    )
    plain = {tuple(row) for row in await admin_connection.fetch(columns, "crm")}
    hidden = {tuple(row) for row in await admin_connection.fetch(columns, "masked")}
    assert hidden == {each for each in plain if each[0] not in NOT_MASKED}
    told = await Queries(QueryRepository(database)).relations(masked)
    assert {row[0] for row in told.rows} == {f"masked.{name}" for name, *_ in hidden}
    # The reader has none of them, unless it becomes the other role.
    with pytest.raises(PermissionDenied, match="schema masked"):
        async with database.reading(masked) as connection:
            await connection.fetch("SELECT id FROM masked.contacts")
