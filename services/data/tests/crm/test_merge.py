"""The MERGE that crm_upsert, crm_undo and imports share."""

from __future__ import annotations

import csv
import io
import json

from fleet_data.claims import Caller
from fleet_data.crm.changing import ChangeSet
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.properties import Definition
from fleet_data.crm.repository.merge import Merge
from fleet_data.crm.service import Crm
from fleet_data.ids import uuid7
from fleet_data.pool import Database


async def test_copied_rows_are_created_updated_or_left_alone(
    crm: Crm, database: Database, demo: Caller
) -> None:
    await crm.upsert(
        demo,
        "property",
        [{"object": "contact", "name": "x_a"}, {"object": "contact", "name": "x_b"}],
    )
    people = [
        {"last_name": "Same", "email": "same@example.com", "title": "t"},
        {"last_name": "Old", "email": "changed@example.com", "title": "t", "x_a": "1"},
    ]
    known = await crm.upsert(demo, "contact", people)
    of = OBJECTS["contact"].extended(
        [Definition(n, "text", None, None).field for n in ("x_a", "x_b")]
    )
    fields = [of.fields[name] for name in ("email", "last_name", "x_b")]
    merge = Merge(of, fields, match_on="email")
    rows = [
        [1, uuid7(), "same@example.com", "Same", "{}"],
        [2, uuid7(), "changed@example.com", "Changed", json.dumps({"x_b": "2"})],
        [3, uuid7(), "new@example.com", "New", json.dumps({"x_b": None})],
    ]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    change_set = ChangeSet(uuid7(), "import_data")
    async with database.writing(demo, settings=change_set.settings) as connection:
        await connection.execute(merge.staging_sql("staged"))
        source = io.BytesIO(text.getvalue().encode())
        await connection.copy_to_table("staged", source=source, format="csv")
        done = await connection.fetch(merge.sql("staged"), demo.tenant, demo.subject)
        sets = await connection.fetch(
            "SELECT tool, actor FROM store.change_sets WHERE id = $1", str(change_set.id)
        )
    assert sorted((row["row"], row["action"], row["version"]) for row in done) == [
        (2, "UPDATE", 2),
        (3, "INSERT", 1),
    ]
    assert [row["id"] for row in done if row["row"] == 2] == [known.rows[1].id]
    assert [tuple(row.values()) for row in sets] == [("import_data", demo.subject)]
    page = await crm.search(
        demo, "contact", fields=["last_name", "title", "lifecycle", "x_a", "x_b"], sort="last_name"
    )
    assert [list(row) for row in page.rows] == [
        ["Changed", "t", "lead", "1", "2"],
        ["New", None, "lead", None, None],
        ["Same", "t", "lead", None, None],
    ]


def test_names_come_from_the_registry_and_values_are_bound() -> None:
    of = OBJECTS["contact"]
    sql = Merge(of, [of.fields["email"]], match_on="email").sql("staged")
    assert sql.startswith("MERGE INTO store.contacts AS t USING staged AS s ON t.tenant = $1")
    assert "coalesce" not in sql
    assert "'lead'" in sql
