from __future__ import annotations

import pytest

from fleet_common.errors import PermissionDenied
from fleet_data.query.guard import refuse_named

NAMES = frozenset({"pg_sleep", "nextval"})


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_sleep(9)",
        "SELECT PG_Sleep (9)",
        'SELECT "pg_sleep"(9)',
        "SELECT (9.5::float8).pg_sleep",
        "SELECT pg_catalog.pg_sleep/**/(9)",
        "SELECT 1pg_sleep",
        "SELECT 'pg_sleep'",
        'SELECT U&"pg_sl\\0065ep"(9)',
        'SELECT u&"x"',
    ],
)
def test_text_that_names_or_could_name_a_function_is_refused(sql: str) -> None:
    with pytest.raises(PermissionDenied):
        refuse_named(sql, NAMES)


@pytest.mark.parametrize(
    "sql", ["SELECT pg_sleeper", "SELECT my_nextval, nextval2, nextvalé FROM t", "SELECT U&'x'"]
)
def test_other_words_pass(sql: str) -> None:
    refuse_named(sql, NAMES)


def test_nothing_is_looked_at_where_the_database_forbids_it_all() -> None:
    refuse_named('SELECT U&"pg_sleep"(9)', frozenset())
