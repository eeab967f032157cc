"""Strings that broke other database tools, and the classes around them: none may do anything here.

Sources: the archived postgres server (COMMIT escape), CVE-2026-12045, GHSA-65hm-pwj5-73pw, postgres-mcp #178 and
#200, pgedge #196 and #220, dbhub #271, #349, #315, #377, pg-mcp-server #3, expense-budget-tracker #258, sqlsaber
#184, and row-security bypasses by set_config.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from fleet_cli.testing import PostgresServer
from fleet_common.errors import FleetError
from fleet_data.claims import Caller
from fleet_data.crm.cursor import CursorSigner
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.service import Crm
from fleet_data.crm.values import parse_value
from fleet_data.pool import Database
from fleet_data.query.repository import QueryRepository
from fleet_data.query.service import Queries
from fleet_data.settings import Settings

SECRET = "The other tenant's secret"
SLOW_S = 3.0

# Each of these must end in an error.
REFUSED = {
    # More than one statement, and the end of the transaction.
    "stacked_drop": "SELECT 1; DROP TABLE store.contacts",
    "stacked_commit": "SELECT 1; COMMIT; DELETE FROM store.contacts",
    "commit_first": "COMMIT; DROP SCHEMA crm CASCADE; --",
    "rollback_first": "ROLLBACK; SET app.claims = ''",
    "begin_write": "BEGIN READ WRITE; UPDATE crm.contacts SET email = NULL",
    "commit_alone": "COMMIT",
    "end_alone": "END",
    "abort_chain": "ABORT AND CHAIN",
    "savepoint": "SAVEPOINT a",
    "prepare_transaction": "PREPARE TRANSACTION 'x'",
    "set_transaction": "SET TRANSACTION READ WRITE",
    # Breaking out of the wrap.
    "paren_break_out": "SELECT 1) q; DROP TABLE store.contacts; --",
    "paren_break_out_dml": "SELECT 1) q; UPDATE store.contacts SET email = 'x'; SELECT * FROM (SELECT 1",
    "break_out_limit": "SELECT 1) q LIMIT 1000000 --",
    "break_out_union": "SELECT 1) q UNION ALL (SELECT 2",
    "open_block_comment": "SELECT 1 /*",
    "open_dollar_quote": "SELECT $$",
    "open_string": "SELECT '",
    "break_out_cross_join": "SELECT 1) a CROSS JOIN (SELECT body FROM crm.notes",
    "break_out_lock": "SELECT 1) q, store.contacts FOR UPDATE --",
    # Breaking out of the wrap with a query that is whole again once it is wrapped: no limit on a row, or on rows.
    "break_out_huge_cell": "SELECT repeat('x', 20000000) AS a) z UNION ALL SELECT * FROM (SELECT 'a'",
    "break_out_huge_cell_except": "SELECT repeat('x', 20000000) AS a) z EXCEPT SELECT * FROM (SELECT 'a'",
    "break_out_huge_cell_join": "SELECT 1) z, (SELECT repeat('x', 20000000)) y UNION ALL SELECT * FROM (SELECT 1, 'a'",
    "break_out_huge_cell_line_comment": "SELECT repeat('x', 20000000) AS a) z --\nUNION SELECT * FROM (SELECT 'a' --",
    "break_out_huge_cell_block_comment": (
        "SELECT repeat('x', 20000000) AS a /*(*/)/**/z UNION/*)*/ALL SELECT * FROM/* /* ( */ */(SELECT 'a'"
    ),
    "break_out_huge_cell_dollar_quote": (
        "SELECT repeat('x', 20000000) || $a$($a$ AS a) z UNION ALL SELECT * FROM (SELECT $b$)$b$"
    ),
    "break_out_huge_cell_quotes": (
        "SELECT repeat('x', 20000000) || E'\\'(' AS \"(\") z UNION ALL SELECT * FROM (SELECT U&')'"
    ),
    "break_out_huge_cell_semicolon": "SELECT repeat('x', 20000000) AS a) z UNION ALL SELECT * FROM (SELECT 'a' ; ;",
    "break_out_huge_cell_cte": (
        "WITH c AS (SELECT repeat('x', 20000000) AS a) SELECT a FROM c) z UNION ALL SELECT * FROM (SELECT 'a'"
    ),
    "break_out_huge_cell_values": "VALUES (repeat('x', 20000000))) z UNION ALL SELECT * FROM (VALUES ('a')",
    "break_out_huge_cell_table": "SELECT repeat('x', 20000000)) z UNION ALL SELECT * FROM (SELECT body FROM crm.notes",
    "break_out_many_rows": (
        "SELECT 1) z CROSS JOIN generate_series(1, 5000) UNION ALL SELECT * FROM (SELECT 1, 2"
    ),
    "break_out_limit_comment": "SELECT g FROM generate_series(1, 5000) g) z LIMIT 5000 /*",
    "break_out_limit_line_comment": "SELECT g FROM generate_series(1, 5000) g) z --",
    "break_out_limit_dollar_quote": "SELECT g FROM generate_series(1, 5000) g) z WHERE '' <> $$",
    # Writing, by every door of a query.
    "insert": "INSERT INTO crm.notes (id, body) VALUES (gen_random_uuid(), 'x') RETURNING id",
    "update": "UPDATE crm.contacts SET email = 'x' RETURNING id",
    "delete": "DELETE FROM crm.contacts RETURNING id",
    "merge": "MERGE INTO crm.notes n USING crm.tasks t ON false WHEN NOT MATCHED THEN DO NOTHING",
    "truncate": "TRUNCATE store.contacts",
    "cte_update": "WITH x AS (UPDATE store.contacts SET email = 'x' RETURNING 1) SELECT * FROM x",
    "cte_insert": "WITH x AS (INSERT INTO store.notes DEFAULT VALUES RETURNING 1) TABLE x",
    "cte_delete_comment": "/* SELECT */ WITH x AS (DELETE FROM crm.notes RETURNING 1) SELECT * FROM x",
    "comment_prefix_delete": "-- SELECT\nDELETE FROM store.notes",
    "select_into": "SELECT * INTO stolen FROM crm.contacts",
    "create_table_as": "CREATE TABLE stolen AS SELECT * FROM crm.contacts",
    "create_temp": "CREATE TEMPORARY TABLE t (x int)",
    "create_function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "for_update": "SELECT * FROM crm.contacts FOR UPDATE",
    "nextval": "SELECT nextval('store.change_log_id_seq')",
    "setval": "SELECT setval('store.change_log_id_seq', 1)",
    # Commands that are no query.
    "set_role": "SET ROLE crm_migrator",
    "set_session_authorization": "SET SESSION AUTHORIZATION postgres",
    "reset_role": "RESET ROLE",
    "set_claim": "SET app.claims = 'x'",
    "set_local_timeout": "SET LOCAL statement_timeout = 0",
    "do_block": "DO $$ BEGIN PERFORM pg_sleep(5); END $$",
    "call": "CALL store.touch()",
    "copy_program": "COPY (SELECT 1) TO PROGRAM 'id > /tmp/owned'",
    "copy_from_program": "COPY store.notes FROM PROGRAM 'id'",
    "copy_to_stdout": "COPY store.contacts TO STDOUT",
    "copy_file": "COPY (SELECT 1) TO '/tmp/owned'",
    "listen": "LISTEN x",
    "notify": "NOTIFY x",
    "lock": "LOCK TABLE store.contacts",
    "prepare": "PREPARE p AS SELECT 1",
    "execute": "EXECUTE p",
    "declare": "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "vacuum": "VACUUM",
    "explain_analyze": "EXPLAIN ANALYZE DELETE FROM store.contacts",
    "alter_role": "ALTER ROLE crm_reader SUPERUSER",
    "grant": "GRANT crm_migrator TO crm_reader",
    "load_library": "LOAD 'dblink'",
    "create_extension": "CREATE EXTENSION dblink",
    "discard": "DISCARD ALL",
    # The session: settings, locks, signals, waiting.
    "set_config": "SELECT set_config('app.claims', '', false)",
    "set_config_cte": "WITH x AS MATERIALIZED (SELECT set_config('app.claims', 'demo', true)) SELECT * FROM x",
    "set_config_role": "SELECT set_config('role', 'crm_migrator', true)",
    "set_config_timeout": "SELECT set_config('statement_timeout', '0', false)",
    "set_config_quoted": "SELECT \"set_config\"('app.claims', 'x', false)",
    "set_config_unicode": "SELECT U&\"set_co\\006efig\"('app.claims', 'x', false)",
    "advisory_lock": "SELECT pg_advisory_lock(4242)",
    "advisory_lock_attribute": "SELECT (4242::bigint).pg_advisory_lock",
    "try_advisory_lock": "SELECT pg_try_advisory_lock(4242)",
    "sleep": "SELECT pg_sleep(30)",
    "sleep_attribute": "SELECT (2.5::float8).pg_sleep",
    "sleep_array": "SELECT (ARRAY[9.5::float8])[1].pg_sleep",
    "sleep_for": "SELECT pg_sleep_for('9 seconds')",
    "sleep_until": "SELECT pg_sleep_until(now() + interval '9 seconds')",
    "sleep_rows_from": "SELECT * FROM ROWS FROM (pg_sleep(9))",
    "sleep_lateral": "SELECT * FROM generate_series(1, 9) g, LATERAL pg_sleep(g)",
    "sleep_case": "SELECT CASE WHEN true THEN pg_sleep(9) END",
    "sleep_order_by": "SELECT 1 ORDER BY pg_sleep(9)",
    "terminate": "SELECT pg_terminate_backend(pid) FROM generate_series(1, 99999) pid",
    "cancel": "SELECT pg_cancel_backend(1)",
    "notify_function": "SELECT pg_notify('x', 'y')",
    "export_snapshot": "SELECT pg_export_snapshot()",
    "emit_message": "SELECT pg_logical_emit_message(false, 'x', 'y')",
    "reload": "SELECT pg_reload_conf()",
    "rotate_log": "SELECT pg_rotate_logfile()",
    "burn_ids": "SELECT pg_current_xact_id() FROM generate_series(1, 1000)",
    # Files, large objects, other servers.
    "read_file": "SELECT pg_read_file('/etc/passwd')",
    "read_file_from": "SELECT * FROM pg_read_file('/etc/passwd')",
    "read_file_attribute": "SELECT ('/etc/passwd'::text).pg_read_file",
    "read_file_quoted": "SELECT \"pg_read_file\"('/etc/passwd')",
    "read_file_unicode": "SELECT U&\"pg_re\\0061d_file\"('/etc/passwd')",
    "read_file_comment": "SELECT pg_read_file/**/('/etc/passwd')",
    "read_binary_file": "SELECT pg_read_binary_file('/etc/passwd')",
    "ls_dir": "SELECT pg_ls_dir('/')",
    "stat_file": "SELECT pg_stat_file('/etc/passwd')",
    "ls_logdir": "SELECT * FROM pg_ls_logdir()",
    "lo_import": "SELECT lo_import('/etc/passwd')",
    "lo_export": "SELECT lo_export(1, '/tmp/owned')",
    "lo_create": "SELECT lo_create(0)",
    "lo_from_bytea": "SELECT lo_from_bytea(0, 'x')",
    "lo_get": "SELECT lo_get(1)",
    "dblink": "SELECT * FROM dblink('host=127.0.0.1', 'SELECT 1') AS t (x int)",
    "dblink_exec": "SELECT dblink_exec('host=127.0.0.1', 'DROP TABLE x')",
    # SQL in text, run by a function.
    "query_to_xml": "SELECT query_to_xml('DELETE FROM store.notes', true, true, '')",
    "table_to_xml": "SELECT table_to_xml('store.contacts', true, true, '')",
    "database_to_xml": "SELECT database_to_xml(true, true, '')",
    "cursor_to_xml": "SELECT cursor_to_xml('c', 1, true, true, '')",
    "ts_stat": "SELECT * FROM ts_stat('SELECT to_tsvector(email) FROM store.contacts')",
    "ts_rewrite": "SELECT ts_rewrite('a'::tsquery, 'SELECT 1, 2')",
    # What is not ours to see.
    "base_table": "SELECT * FROM store.contacts",
    "base_table_only": "TABLE store.contacts",
    "claim_keys": "SELECT * FROM authz.claim_keys",
    "claim_function": "SELECT authz.claim()",
    "idempotency": "SELECT * FROM store.idempotency",
    "change_log": "SELECT * FROM store.change_log",
    "pg_authid": "SELECT rolname, rolpassword FROM pg_authid",
    "pg_shadow": "SELECT * FROM pg_shadow",
    "pg_statistic": "SELECT * FROM pg_statistic",
    "stat_activity": "SELECT pid, query FROM pg_stat_activity",
    "stat_get_activity": "SELECT * FROM pg_stat_get_activity(NULL)",
    "pg_locks": "SELECT * FROM pg_locks",
    "user_mapping": "SELECT umoptions FROM pg_user_mapping",
    "hba_rules": "SELECT * FROM pg_hba_file_rules",
    "file_settings": "SELECT * FROM pg_file_settings",
    "row_too_large": "SELECT crm.row_too_large()",
    # Burning the server.
    "endless_recursion": "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
    "cross_join": "SELECT count(*) FROM generate_series(1, 1e6) a, generate_series(1, 1e6) b",
    "huge_cell": "SELECT repeat('x', 200000000)",
    "huge_cell_named_q": "SELECT 1 AS q, repeat('x', 200000000) AS b",
    "huge_json": "SELECT json_agg(g) FROM generate_series(1, 2000000) g",
    "huge_row_of_many": "SELECT string_agg(repeat('y', 100), '') FROM generate_series(1, 100000)",
    "numeric_bomb": "SELECT count(*) FROM generate_series(1, 100000) g WHERE 9.9 ^ (g % 2 + 90000) > 1",
    "nul": "SELECT '\0'",
    "empty": "  ;; ",
    "only_comment": "-- nothing",
}

# These may return, but nothing that is not the caller's.
HARMLESS = {
    "all_contacts": "SELECT * FROM crm.contacts",
    "all_notes": "SELECT body FROM crm.notes WHERE true OR 1 = 1",
    "leaky_cast": "SELECT * FROM crm.notes WHERE body::int = 1",
    "leaky_division": "SELECT * FROM crm.notes WHERE 1 / (length(body) - length(body)) = 1",
    "leaky_error": f"SELECT * FROM crm.notes WHERE body ILIKE '%{SECRET[:9]}%' AND body::int > 0",
    "leaky_like": "SELECT count(*) FROM crm.notes WHERE body LIKE '%secret%'",
    "own_claim": "SELECT current_setting('app.claims', true)",
    "statistics_view": "SELECT most_common_vals FROM pg_stats WHERE schemaname = 'store'",
    "view_definitions": "SELECT pg_get_viewdef('crm.notes'::regclass)",
    "roles": "SELECT rolname, rolpassword FROM pg_roles",
    "settings": "SELECT name, setting FROM pg_settings",
    "function_sources": "SELECT prosrc FROM pg_proc WHERE pronamespace = 'authz'::regnamespace",
    "many_rows": "SELECT g, repeat('z', 50) FROM generate_series(1, 10000000) g",
    "comment_tail": "SELECT body FROM crm.notes --",
    "row_to_json": "SELECT row_to_json(n) FROM crm.notes n",
    "xmin": "SELECT count(*) FROM crm.notes n GROUP BY n.*",
    "prepared": "SELECT * FROM pg_prepared_statements",
    "set_limit": "SELECT ext.set_limit(0.01)",
    "regex_bomb": "SELECT repeat('a', 30000) ~ '^(a*)*(a*)*(a*)*(a*)*b$' FROM generate_series(1, 100000)",
    "random_seed": "SELECT setseed(0.5)",
}


@dataclass
class Target:
    """A database with two tenants, attacked through one connection, so that what sticks to it shows."""

    queries: Queries
    admin: asyncpg.Connection[asyncpg.Record]
    caller: Caller

    async def state(self) -> str:
        """Return everything an attack could have changed."""
        row = await self.admin.fetchrow(
            """
            SELECT
                (SELECT json_agg(n ORDER BY id) FROM store.notes n) AS notes,
                (SELECT json_agg(c ORDER BY id) FROM store.contacts c) AS contacts,
                (SELECT count(*) FROM store.change_log) AS changes,
                (SELECT json_agg(c.relname ORDER BY c.oid) FROM pg_class c WHERE c.relkind IN ('r', 'v', 'S')
                    AND c.relnamespace::regnamespace::text NOT LIKE 'pg_toast%') AS relations,
                (SELECT json_agg(r ORDER BY r.oid) FROM pg_authid r) AS roles,
                (SELECT count(*) FROM pg_largeobject_metadata) AS large_objects,
                (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS advisory_locks,
                (SELECT count(*) FROM pg_stat_activity
                 WHERE usename = 'crm_reader' AND state LIKE 'idle in%') AS open_transactions,
                (SELECT last_value FROM store.change_log_id_seq) AS sequence
            """
        )
        assert row is not None
        return json.dumps(dict(row), default=str)


@pytest.fixture(scope="module")
def attacked_url(postgres_server: PostgresServer, template: str) -> Iterator[str]:
    yield postgres_server.create_database("data_attacked", template)
    postgres_server.drop_database("data_attacked")


@pytest.fixture
async def target(
    attacked_url: str,
    make_settings: Callable[..., Settings],
    open_database: Callable[[Settings], AbstractAsyncContextManager[Database]],
) -> AsyncGenerator[Target]:
    settings = make_settings(attacked_url, pool_size=1, query_timeout_s=1.0)
    demo, other = Caller("demo", "key:attacker"), Caller("other", "key:victim")
    async with open_database(settings) as database:
        admin = await asyncpg.connect(attacked_url, ssl=False)
        try:
            if not await admin.fetchval("SELECT count(*) FROM store.notes"):
                await plant(database, demo, other)
            yield Target(Queries(QueryRepository(database)), admin, demo)
        finally:
            await admin.close()


async def plant(database: Database, demo: Caller, other: Caller) -> None:
    """Give the attacker one note, and the other tenant what must not be seen."""
    crm = Crm(CrmRepository(database, parse=parse_value), CursorSigner("x" * 32))
    await crm.upsert(demo, "note", [{"body": "Ours"}])
    await crm.upsert(other, "note", [{"body": SECRET}])
    await crm.upsert(other, "contact", [{"last_name": SECRET, "email": "victim@other.example"}])


async def check(target: Target, sql: str) -> Any:
    """Run an attack, check that nothing changed and nothing leaked, and return the error it ended in, if any."""
    before, started = await target.state(), time.monotonic()
    error, answer = None, None
    try:
        answer = await target.queries.run(target.caller, sql)
    except FleetError as exc:
        error = exc
    assert time.monotonic() - started < SLOW_S
    shown = f"{answer} {error}"
    for marker in (SECRET[4:], "victim@", "root:x:", "SCRAM-SHA-256$"):
        assert marker not in shown.replace(sql, "")
    assert await target.state() == before
    follow_up = await target.queries.run(
        target.caller,
        "SELECT crm.tenant(), (SELECT count(*) FROM crm.notes), current_setting('transaction_read_only'), "
        "current_user, current_setting('statement_timeout')",
    )
    assert follow_up.rows == [["demo", 1, "on", "crm_reader", "1s"]]
    return error


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED.keys())
async def test_attack_is_refused_and_leaves_no_trace(target: Target, sql: str) -> None:
    assert await check(target, sql) is not None


@pytest.mark.parametrize("sql", HARMLESS.values(), ids=HARMLESS.keys())
async def test_query_shows_nothing_of_another_tenant(target: Target, sql: str) -> None:
    await check(target, sql)


async def test_nobody_reads_what_the_last_caller_of_the_connection_asked(target: Target) -> None:
    await target.queries.run(Caller("other", "key:victim"), "SELECT 'asked by the victim'")

    answer = await target.queries.run(
        target.caller, "SELECT statement FROM pg_prepared_statements UNION ALL SELECT 'mine'"
    )

    assert ["mine"] in answer.rows
    assert "asked by the victim" not in str(answer.rows)


async def test_claim_of_another_connection_is_refused(target: Target) -> None:
    answer = await target.queries.run(target.caller, "SELECT current_setting('app.claims', true)")
    claim = answer.rows[0][0]
    async with target.admin.transaction():
        await target.admin.execute("SET LOCAL ROLE crm_reader")
        await target.admin.execute(f"SET LOCAL app.claims = '{claim}'")
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="forged"):
            await target.admin.fetch("SELECT * FROM crm.notes")


def test_corpus_is_at_least_as_large_as_the_one_it_follows() -> None:
    assert len(REFUSED) + len(HARMLESS) >= 67
