"""The one way many records are written: a MERGE from rows that lie in a source to a table of records.

crm_upsert and crm_undo merge rows that came as JSON, an import merges what it copied into a temporary table. Row
security, the version column and the change log work for all of them alike, because the triggers see one statement.

```python
merge = Merge(of, fields=(email, title), match_on="email")
await connection.execute(merge.staging_sql("staged"))           # row, id, email, title
await connection.copy_records_to_table("staged", records=…)
await connection.fetch(merge.sql("staged"), caller.tenant, caller.subject)
```
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet_data.crm.models import FieldDef, ObjectDef
from fleet_data.crm.repository.sql import sql_type
from fleet_data.pool import Connection

# What the trigger `touch` does otherwise, a call per row.
_TOUCH = "version = t.version + 1, updated_at = now()"
_MANY = 1000


@dataclass(frozen=True, slots=True)
class Merge:
    """A MERGE of rows that have `row` (a number of the caller's), `id` (for a new record) and `fields`.

    Attributes:
        of: what the records are.
        fields: what the rows set; custom properties lie together in a column `props` of type jsonb, where a null
            empties the property, and those that a row does not name stay.
        match_on: the field that finds an existing record; what is not found is created.
    """

    of: ObjectDef
    fields: Sequence[FieldDef]
    match_on: str = "id"

    @property
    def columns(self) -> dict[str, str]:
        """Return the columns that the source must have, with their types."""
        own = {f.name: sql_type(f) for f in self.fields if not f.custom}
        return {"row": "bigint", "id": "uuid", **own, **self._props}

    def staging_sql(self, name: str) -> str:
        """Return the statement that creates a temporary table to copy rows into."""
        columns = ", ".join(f"{column} {kind}" for column, kind in self.columns.items())
        return f"CREATE TEMPORARY TABLE {name} ({columns}) ON COMMIT DROP"

    def json_source(self, parameter: str) -> str:
        """Return the source that is a JSON array of objects in `parameter`, such as `$3`."""
        columns = ", ".join(f"{column} {kind}" for column, kind in self.columns.items())
        return f"jsonb_to_recordset({parameter}) AS s ({columns})"

    def sql(self, source: str) -> str:
        """Return the MERGE; `$1` is the tenant and `$2` who writes.

        It returns a line per record that was created or updated: `row`, `action` (INSERT or UPDATE), `id` and
        `version`. A record that is as the row wants it stays as it is and has none.
        """
        return (
            f"MERGE INTO store.{self.of.table} AS t USING {_aliased(source)} "  # noqa: S608 - names of the registry
            f"ON t.tenant = $1 AND t.deleted_at IS NULL AND t.{self.match_on} = s.{self.match_on} "
            f"WHEN MATCHED AND {self._differs} THEN UPDATE SET {_TOUCH}, updated_by = $2, {self._assignments} "
            f"WHEN NOT MATCHED THEN INSERT (tenant, created_by, updated_by, id, {', '.join(self._inserts)}) "
            f"VALUES ($1, $2, $2, s.id, {', '.join(self._inserts.values())}) "
            "RETURNING s.row, merge_action() AS action, t.id, t.version"
        )

    @property
    def _props(self) -> dict[str, str]:
        return {"props": "jsonb"} if any(f.custom for f in self.fields) else {}

    @property
    def _sets(self) -> dict[str, str]:
        """Return what an existing record gets, by column."""
        sets = {f.name: f"s.{f.name}" for f in self.fields if not f.custom}
        return {**sets, "props": "jsonb_strip_nulls(t.props || s.props)"} if self._props else sets

    @property
    def _assignments(self) -> str:
        return ", ".join(f"{column} = {value}" for column, value in self._sets.items())

    @property
    def _differs(self) -> str:
        before = ", ".join(f"t.{column}" for column in self._sets)
        return f"ROW({before}) IS DISTINCT FROM ROW({', '.join(self._sets.values())})"

    @property
    def _inserts(self) -> dict[str, str]:
        """Return what a new record gets, by column: what the row says, else the field's default."""
        given = {f.name for f in self.fields}
        inserts = {}
        for field in self.of.fields.values():
            if field.custom or not (field.name in given or field.default is not None):
                continue
            default = "" if field.default is None else f"'{field.default}'"  # of the registry
            said = f"s.{field.name}" if field.name in given else ""
            both = f"coalesce({said}, {default})" if said and default else said or default
            inserts[field.name] = both
        return {**inserts, "props": "jsonb_strip_nulls(s.props)"} if self._props else inserts


async def expect(connection: Connection, rows: int) -> None:
    """Let the rest of the transaction join so many rows by hash, where they are many.

    The planner knows a table as it was when it was last analysed: of one that has just been filled it expects a row
    or two, and goes through all of them for each row of the other side.
    """
    if rows > _MANY:
        await connection.execute(
            "SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off; SET LOCAL work_mem = '64MB'"
        )


def _aliased(source: str) -> str:
    return source if " AS s " in source else f"{source} AS s"
