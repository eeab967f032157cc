from __future__ import annotations

import asyncpg
import pytest

from fleet_common.errors import InvalidInput, PayloadTooLarge
from fleet_data.claims import Caller
from fleet_data.errors import QueryRejected
from fleet_data.pool import Database
from fleet_data.query.models import Answer, Param
from fleet_data.query.repository import QueryRepository
from fleet_data.query.service import ANSWER_BYTES, Queries, as_csv

LEGIT = {
    "aggregate": (
        "SELECT stage, count(*), sum(amount) FROM crm.deals WHERE status = 'open' GROUP BY stage ORDER BY 2 DESC"
    ),
    "join": (
        "SELECT c.name, u.name, sum(d.amount) FROM crm.deals d JOIN crm.companies c ON c.id = d.company_id "
        "LEFT JOIN crm.users u ON u.id = d.owner_id GROUP BY 1, 2 ORDER BY 3 DESC NULLS LAST LIMIT 5"
    ),
    "unqualified": "SELECT first_name FROM contacts WHERE lifecycle = 'customer' LIMIT 3",
    "cte": "WITH big AS (SELECT * FROM crm.deals WHERE amount > 50000) SELECT count(*) FROM big",
    "recursive": "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n",
    "window": (
        "SELECT deal_id, stage, entered_at - lag(entered_at) OVER (PARTITION BY deal_id ORDER BY entered_at) AS took "
        "FROM crm.deal_stage_history LIMIT 10"
    ),
    "values": "VALUES (1, 'a'), (2, 'b')",
    "table": "TABLE crm.stages",
    "union": "SELECT 'c' AS kind, count(*) FROM contacts UNION ALL SELECT 'l', count(*) FROM leads",
    "like": "SELECT count(*) FROM crm.contacts WHERE email ILIKE '%@%.example'",
    "lateral": (
        "SELECT d.name, a.subject FROM crm.deals d CROSS JOIN LATERAL "
        "(SELECT subject FROM crm.activities WHERE deal_id = d.id ORDER BY occurred_at DESC LIMIT 1) a LIMIT 3"
    ),
    "json": "SELECT json_build_object('name', name, 'employees', employees) FROM crm.companies LIMIT 2",
    "array": "SELECT array_agg(DISTINCT industry) FROM crm.companies",
    "dates": "SELECT date_trunc('month', closed_at) AS month, count(*) FROM deals GROUP BY 1 ORDER BY 1",
    "trigram": "SELECT name, similarity(name, 'smith') FROM companies ORDER BY 2 DESC LIMIT 3",
    "duplicate_names": "SELECT c.id, d.id FROM contacts c JOIN deals d ON d.contact_id = c.id LIMIT 2",
    "column_named_q": "SELECT 1 AS q, 2 AS q",
    "semicolon": "SELECT 1;",
    "comment_at_the_end": "SELECT 1 -- done",
    "leading_comment": "/* why */ SELECT 1",
    "grouping_sets": "SELECT stage, currency, count(*) FROM deals GROUP BY GROUPING SETS ((stage), (currency), ())",
    "catalog": "SELECT column_name FROM information_schema.columns WHERE table_name = 'deals'",
    "no_columns": "SELECT FROM crm.stages",
}


@pytest.mark.parametrize("sql", LEGIT.values(), ids=LEGIT.keys())
async def test_honest_question_is_answered(queries: Queries, demo: Caller, sql: str) -> None:
    answer = await queries.run(demo, sql)
    assert len(answer.rows) > 0
    assert not answer.truncated


async def test_order_of_the_caller_is_kept(queries: Queries, demo: Caller) -> None:
    answer = await queries.run(demo, "SELECT amount FROM deals ORDER BY amount DESC", max_rows=200)
    amounts = [row[0] for row in answer.rows]
    assert amounts == sorted(amounts, reverse=True)


async def test_columns_of_the_same_name_are_all_there(queries: Queries, demo: Caller) -> None:
    answer = await queries.run(demo, "SELECT 1 AS a, 2 AS b, 3 AS a")
    assert (list(answer.columns), answer.rows) == (["a", "b", "a"], [[1, 2, 3]])


async def test_empty_answer_still_has_its_columns(queries: Queries, demo: Caller) -> None:
    answer = await queries.run(demo, "SELECT id, name FROM companies WHERE false")
    assert (list(answer.columns), answer.rows) == (["id", "name"], [])


@pytest.mark.parametrize(
    ("sql", "params", "expected"),
    [
        ("SELECT $1::int + $2", [40, 2], 42),
        ("SELECT count(*) FROM deals WHERE amount > $1", [1e12], 0),
        ("SELECT $1::date + 1", ["2026-11-20"], "2026-11-21"),
        ("SELECT $1::timestamptz", ["2026-11-20T10:00:00+01:00"], "2026-11-20T09:00:00Z"),
        ("SELECT $1::text", ["'; DROP TABLE x; --"], "'; DROP TABLE x; --"),
        ("SELECT $1::bool", [True], True),
        (
            "SELECT $1::uuid",
            ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
        ("SELECT coalesce($1::text, 'none')", [None], "none"),
    ],
)
async def test_parameters_are_bound_as_json_has_them(
    queries: Queries, demo: Caller, sql: str, params: list[Param], expected: object
) -> None:
    answer = await queries.run(demo, sql, params)
    assert answer.rows == [[expected]]


@pytest.mark.parametrize(
    ("sql", "params", "says"),
    [
        ("SELECT nme FROM contacts", [], r'column "nme" does not exist \(SQLSTATE 42703\)'),
        ("SELECT * FROM contact", [], r'relation "contact" does not exist \(SQLSTATE 42P01\)'),
        ("SELEC 1", [], "syntax error"),
        ("SELECT 1 / 0", [], "division by zero"),
        ("SELECT $1::int", [], "expects 1 argument"),
        ("SELECT $1::int", [1, 2], "expects 1 argument"),
        ("SELECT $1::int", ["x"], r"query argument \$1: 'x'"),
        ("SELECT $1::date", ["x"], "invalid input syntax for type date"),
    ],
)
async def test_wrong_sql_is_explained_with_its_sqlstate(
    queries: Queries, demo: Caller, sql: str, params: list[Param], says: str
) -> None:
    with pytest.raises(QueryRejected, match=says):
        await queries.run(demo, sql, params)


@pytest.mark.parametrize("sql", ["", " ;\n; ", "x" * 20_001, "SELECT '\0'"])
async def test_text_that_is_no_statement_is_refused_before_the_database(
    queries: Queries, demo: Caller, sql: str
) -> None:
    with pytest.raises(InvalidInput):
        await queries.run(demo, sql)


async def test_more_rows_than_asked_for_are_cut_and_said_so(queries: Queries, demo: Caller) -> None:
    answer = await queries.run(demo, "SELECT * FROM generate_series(1, 11)", max_rows=10)
    assert len(answer.rows) == 10
    assert answer.truncated
    assert answer.note is not None
    assert "cut at 10 rows" in answer.note
    exact = await queries.run(demo, "SELECT * FROM generate_series(1, 10)", max_rows=10)
    assert not exact.truncated


async def test_more_bytes_than_fit_are_cut_and_said_so(queries: Queries, demo: Caller) -> None:
    sql = "SELECT repeat('x', 7000) FROM generate_series(1, 100)"
    answer = await queries.run(demo, sql, max_rows=100)
    assert answer.truncated
    assert len(answer.rows) == ANSWER_BYTES // 7004
    assert "256 kB" in str(answer.note)


async def test_row_that_is_too_large_is_refused_by_the_server(
    queries: Queries, demo: Caller
) -> None:
    with pytest.raises(PayloadTooLarge, match="a row is too large to return"):
        await queries.run(demo, "SELECT 1 AS q, repeat('x', 300000)")


async def test_stored_values_count_as_large_as_they_are_unpacked(
    admin_url: str, database: Database, demo: Caller
) -> None:
    # 2 MB each that are some 25 kB on the disk: 300 rows of it would pass the first wall and be 600 MB here.
    kinds = {
        "text": "repeat('x', 2000000)",
        "bytea": "decode(repeat('00', 2000000), 'hex')",
        "text[]": "array_fill('xxxxxxxx'::text, ARRAY[100000])",
        "jsonb": "to_jsonb(repeat('x', 2000000))",
    }
    admin = await asyncpg.connect(admin_url, ssl=False)
    try:
        for number, (kind, value) in enumerate(kinds.items()):
            table = f"crm.packed_{number}"
            await admin.execute(
                f"CREATE TABLE {table} (value {kind}); GRANT SELECT ON {table} TO PUBLIC; "
                f"INSERT INTO {table} VALUES ({value})"
            )
            size = await admin.fetchval(f"SELECT pg_column_size(value) FROM {table}")
            assert size < 40_000, kind
    finally:
        await admin.close()
    queries = Queries(QueryRepository(database))
    for number in range(len(kinds)):
        for columns in ("value", "value, value AS again", "p::text"):
            with pytest.raises(PayloadTooLarge, match="a row is too large to return"):
                await queries.run(demo, f"SELECT {columns} FROM crm.packed_{number} p")


async def test_values_json_does_not_have_become_text(queries: Queries, demo: Caller) -> None:
    answer = await queries.run(
        demo,
        r"SELECT 'NaN'::float8, '\xff00'::bytea, int4range(1, 5), int4range(1, 1), int8range(NULL, 7), "
        "ARRAY[1.5, NULL], interval '90 min', (1, 'a')",
    )
    assert answer.rows[0] == [
        "nan",
        "\\xff00",
        "[1,5)",
        "empty",
        "(,7)",
        [1.5, None],
        "01:30:00",
        [1, "a"],
    ]


async def test_value_the_driver_cannot_read_is_explained(queries: Queries, demo: Caller) -> None:
    with pytest.raises(QueryRejected, match="Cast the column to text"):
        await queries.run(demo, "SELECT daterange('2026-01-01', '2026-02-01')")
    answer = await queries.run(demo, "SELECT daterange('2026-01-01', '2026-02-01')::text")
    assert answer.rows == [["[2026-01-01,2026-02-01)"]]
    with pytest.raises(QueryRejected, match="a type without values"):
        await queries.run(demo, "SELECT suppress_redundant_updates_trigger()")


async def test_whole_row_of_a_view_is_returned(queries: Queries, demo: Caller) -> None:
    answer = await queries.run(demo, "SELECT s FROM crm.stages s WHERE key = 'won'")
    assert answer.rows[0][0]["probability"] == 100


def test_csv_quotes_what_needs_it_tells_no_text_from_none_and_writes_json_inside() -> None:
    answer = Answer(
        ["a", "b", "c"], [["x,y", None, ""], ['say "hi"', [1, {"k": "v"}], True], ["é\n", 1.5, " "]]
    )
    assert as_csv(answer) == (
        'a,b,c\n"x,y",,""\n"say ""hi""","[1,{""k"":""v""}]",true\n"é\n",1.5, \n'
    )
