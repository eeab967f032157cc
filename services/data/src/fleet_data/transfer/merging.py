"""The SQL of an import: staged rows are checked as sets, merged, and recorded, in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Iterator

from fleet_common.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from fleet_data.claims import Caller
from fleet_data.crm.models import FieldDef, ObjectDef
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.repository.merge import Merge, expect
from fleet_data.crm.repository.store import CrmTransaction
from fleet_data.pool import Connection
from fleet_data.transfer.models import Reject

_BATCH_LINES = 100_000  # each batch reads the table once to join with it
_STAGED = "staged"
_ACTIONS = {"INSERT": "created", "UPDATE": "updated"}
# One record is to blame for these; everything else ends the import.
_ROW_ERRORS = (InvalidInput, NotFound, AlreadyExists, Conflict)


class Merging:
    """The rows of one import in a table that lives as long as the transaction."""

    def __init__(
        self,
        connection: Connection,
        caller: Caller,
        of: ObjectDef,
        fields: list[FieldDef],
        match_on: str,
    ) -> None:
        self._connection = connection
        self._caller = caller
        self._of = of
        self._fields = fields
        self._match_on = match_on
        self._merge = Merge(of, fields, match_on)

    async def stage(self, chunks: AsyncIterable[bytes]) -> None:
        """Copy the rows in."""
        await self._connection.execute(self._merge.staging_sql(_STAGED))
        await self._connection.execute(f"ALTER TABLE {_STAGED} ADD COLUMN is_named boolean")
        columns = ["row", "is_named", *[c for c in self._merge.columns if c != "row"]]
        copied = await self._connection.copy_to_table(
            _STAGED, source=chunks, columns=columns, format="csv"
        )
        await expect(self._connection, int(copied.split()[-1]))

    async def rejects(self) -> list[Reject]:
        """Take out the rows that cannot be merged, and return them, each with the first reason."""
        found: list[Reject] = []
        for reason, condition in self._checks():
            rows = await self._connection.fetch(
                f"DELETE FROM {_STAGED} s WHERE {condition} RETURNING row",  # noqa: S608 - names of the registry
                *([self._caller.tenant] if "$1" in condition else []),
            )
            found += [Reject(row["row"], reason) for row in rows]
        return found

    async def merge(self) -> tuple[Counter[str], list[Reject]]:
        """Merge what is left; return how many records were created, updated and unchanged, and more rejects."""
        total, last = await self._connection.fetchrow(
            f"SELECT count(*), coalesce(max(row), 0) FROM {_STAGED}"  # noqa: S608 - a name of ours
        ) or (0, 0)
        counts: Counter[str] = Counter()
        rejects: list[Reject] = []
        for first in range(1, last + 1, _BATCH_LINES):
            await self._lines(first, min(first + _BATCH_LINES - 1, last), counts, rejects)
        counts["unchanged"] = total - counts.total() - len(rejects)
        return counts, rejects

    async def _lines(
        self, first: int, last: int, counts: Counter[str], rejects: list[Reject]
    ) -> None:
        """Merge these lines; when that fails, each half by itself, until the line to blame stands alone."""
        source = f"(SELECT * FROM {_STAGED} WHERE row BETWEEN {first} AND {last}) AS s "  # noqa: S608 - numbers
        merge = self._merge.sql(source)
        try:
            async with CrmTransaction(self._connection, self._caller).attempt():
                rows = await self._connection.fetch(
                    f"WITH m AS ({merge}) SELECT action, count(*) AS n FROM m GROUP BY action",  # noqa: S608 - as above
                    self._caller.tenant,
                    self._caller.subject,
                )
        except _ROW_ERRORS as exc:
            if exc.retryable:  # two changes met: no row is to blame
                raise
            if first == last:
                rejects.append(Reject(first, exc.message))
                return
            await self._connection.execute(
                f"CREATE INDEX IF NOT EXISTS {_STAGED}_by_row ON {_STAGED} (row)"
            )
            middle = (first + last) // 2
            await self._lines(first, middle, counts, rejects)
            await self._lines(middle + 1, last, counts, rejects)
            return
        counts.update({_ACTIONS[row["action"]]: row["n"] for row in rows})

    def _checks(self) -> Iterator[tuple[str, str]]:
        """Yield (reason, condition on the staged row `s`)."""
        table, key = f"store.{self._of.table}", self._match_on
        same = f"SELECT FROM {table} t WHERE t.tenant = $1 AND t.deleted_at IS NULL"
        known = f"EXISTS ({same} AND t.{key} = s.{key})"
        unique = [f.name for f in self._fields if f.name in self._of.match_on]
        for name in dict.fromkeys([key, *unique]):
            earlier = (
                f"EXISTS (SELECT FROM {_STAGED} e WHERE e.{name} = s.{name} AND e.row < s.row)"
            )
            yield f"an earlier line has the same {name}", earlier
        yield f"{self._of.name} not found", f"s.is_named AND NOT {known}"
        yield from self._empty(known)
        for field in self._fields:
            if field.refers_to:
                to = "users" if field.refers_to == "user" else OBJECTS[field.refers_to].table
                there = f"SELECT FROM store.{to} r WHERE r.tenant = $1 AND r.id = s.{field.name}"
                missing = f"s.{field.name} IS NOT NULL AND NOT EXISTS ({there})"
                yield f"{field.name} points at nothing that exists", missing
        for name in unique:
            if name != key:
                taken = (
                    f"EXISTS ({same} AND t.{name} = s.{name} AND t.{key} IS DISTINCT FROM s.{key})"
                )
                yield f"a record with this {name} already exists", taken

    def _empty(self, known: str) -> Iterator[tuple[str, str]]:
        given = {f.name for f in self._fields}
        for field in self._of.writable:
            if field.required:
                empty = f"s.{field.name} IS NULL" if field.name in given else "true"
                yield f"a new {self._of.name} needs {field.name}", f"{empty} AND NOT {known}"
            if field.name in given and (field.required or field.default is not None):
                yield f"{field.name} must not be empty", f"s.{field.name} IS NULL AND {known}"
