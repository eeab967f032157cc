"""What the CRM can do: find, read and write records of any kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Protocol
from uuid import UUID

from fleet_common.approvals import Plan
from fleet_common.errors import InvalidInput, PermissionDenied
from fleet_data.claims import Caller
from fleet_data.crm.changing import Change, ChangeSet, changed, planned
from fleet_data.crm.cursor import CursorSigner
from fleet_data.crm.deletion import MOST, Deleted, Deletion, delete, plan_deletion
from fleet_data.crm.filters import Filter, Where
from fleet_data.crm.models import (
    MASK,
    Detail,
    FieldDef,
    Found,
    Named,
    ObjectDef,
    Order,
    Page,
    Position,
    Search,
    Upserted,
)
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.properties import is_custom
from fleet_data.crm.questions import Known, shown_to, understood
from fleet_data.crm.relatives import joining
from fleet_data.crm.transaction import Transaction
from fleet_data.crm.upsert import Upsert, restored, upsert

_UPSERT = "crm_upsert"
_RELEVANCE = "relevance"


class Store(Known, Protocol):
    """Where the records are."""

    async def names(self, caller: Caller, kind: Named, prefix: str) -> list[str]:
        """Return names that begin so."""

    async def search(
        self, caller: Caller, search: Search
    ) -> tuple[list[tuple[Any, ...]], Position | None]:
        """Return the rows of a page, and where it ends when there is more."""

    async def get(
        self, caller: Caller, of: ObjectDef, fields: Sequence[FieldDef], ids: Sequence[UUID]
    ) -> dict[str, tuple[Any, ...]]:
        """Return the records that are there, by id."""

    async def stages(self, caller: Caller) -> list[dict[str, Any]]:
        """Return the stages of every pipeline, in order."""

    def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AbstractAsyncContextManager[Transaction]:
        """Yield a transaction that is kept when `keep` is true and nothing is raised."""


class Crm:
    """The CRM of every tenant; each call says on whose behalf."""

    def __init__(self, store: Store, cursors: CursorSigner) -> None:
        self._store = store
        self._cursors = cursors

    async def search(
        self,
        caller: Caller,
        name: str,
        *,
        query: str | None = None,
        where: Filter | None = None,
        fields: Sequence[str] | None = None,
        sort: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return one page of records.

        Args:
            caller: on whose behalf.
            name: the object.
            query: words to look for; misspelt ones are found too.
            where: conditions.
            fields: what to return; the listed ones by default.
            sort: field to sort by, `-field` for the largest first; `relevance` with a query, else newest first.
            limit: rows per page.
            cursor: where the page begins.

        Raises:
            InvalidInput: a name or value is wrong, or the cursor belongs to another question.
            PermissionDenied: a condition, the sort field or all that `query` looks into is masked.
        """
        named = (*(fields or ()), (sort or "").removeprefix("-"))
        asked = await understood(self._store, caller, name, where, named)
        of = asked.of
        chosen = _chosen(of, fields)
        if query and not any(field.searched for field in of.fields.values()):
            raise PermissionDenied(
                f"all that a query looks into is masked in {name} for your roles"
            )
        question = _question(caller, name, query, where, sort)
        search = Search(
            of=of,
            fields=chosen,
            order=_order(of, sort, query),
            limit=limit,
            query=query,
            where=asked.where,
            after=self._cursors.read(cursor, question=question) if cursor else None,
            related=asked.objects,
        )
        rows, end = await self._store.search(caller, search)
        following = self._cursors.write(end, question=question) if end else None
        return _page(chosen, rows, following)

    async def ids(self, caller: Caller, name: str, where: Filter | None, *, most: int) -> list[str]:
        """Return the ids of all records that a filter finds, newest first.

        Raises:
            InvalidInput: there are more than `most`, or see `search`.
        """
        page = await self.search(caller, name, where=where, fields=["id"], limit=most)
        if page.next_cursor is not None:
            raise InvalidInput(f"filter: more than {most:,} records meet it", hint="Narrow it")
        return [row[0] for row in page.rows]

    async def get(
        self,
        caller: Caller,
        name: str,
        ids: Sequence[UUID],
        *,
        fields: Sequence[str] | None = None,
    ) -> Found:
        """Return records in the order of `ids`, and the ids that are not there."""
        of = await shown_to(self._store, caller, name, extended=not fields or is_custom(fields))
        chosen = _chosen(of, fields) if fields else tuple(of.fields.values())
        by_id = await self._store.get(caller, of, chosen, ids)
        wanted = list(dict.fromkeys(str(id_) for id_ in ids))
        rows = [by_id[id_] for id_ in wanted if id_ in by_id]
        return Found(_page(chosen, rows), [id_ for id_ in wanted if id_ not in by_id])

    async def names(self, caller: Caller, kind: Named, prefix: str) -> list[str]:
        """Return the keys of pipelines, or names of segments or campaigns, that begin so, at most 100."""
        return await self._store.names(caller, kind, prefix)

    async def related(
        self, caller: Caller, name: str, other: str, ids: Sequence[UUID], *, limit: int
    ) -> Page:
        """Return records of another object that belong to these, newest first; each shows which of them it is of.

        Raises:
            InvalidInput: no field relates the two objects.
            PermissionDenied: that field is masked.
        """
        named = [str(id_) for id_ in ids]
        of, mine = OBJECTS[name].masking(caller.masks), await shown_to(self._store, caller, other)
        column, theirs = joining(of, mine)
        if theirs == "id":  # the records themselves say to whom they belong
            found = await self.get(caller, name, ids, fields=[column])
            there = sorted({row[0] for row in found.page.rows if row[0]})
            if not there:
                return _page(_chosen(mine, None), [])
            where = Where(field="id", op="in", value=[*there])
            return await self.search(caller, other, where=where, limit=limit)
        fields = dict.fromkeys([theirs, *(field.name for field in _chosen(mine, None))])
        where = Where(field=theirs, op="in", value=[*named])
        return await self.search(caller, other, where=where, fields=[*fields], limit=limit)

    async def upsert(
        self,
        caller: Caller,
        name: str,
        records: Sequence[Mapping[str, Any]],
        *,
        match_on: str = "id",
        if_version: int | None = None,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> Upserted:
        """Create or update records; each has its own outcome, and those without an error are kept together.

        Args:
            caller: on whose behalf.
            name: the object.
            records: the fields to set; `id` or the `match_on` field says which record is meant.
            match_on: unique field that finds an existing record.
            if_version: update only records that are at this version; `version` in a record goes first.
            dry_run: do everything, report the differences and keep nothing.
            idempotency_key: the same key and arguments return the first answer and change nothing.

        Raises:
            InvalidInput: `match_on` is not a unique field of the object.
            PermissionDenied: a record or `match_on` names a masked field.
            KeyReused: the key was used with other arguments.
            UnknownTenant: the tenant has no CRM.
        """
        of = OBJECTS[name].masking(caller.masks)
        if match_on not in ("id", *of.match_on):
            raise InvalidInput(
                f"{name} cannot be matched on {match_on[:60]!r}",
                hint=f"Use {', '.join(('id', *of.match_on))}",
            )
        of.usable(match_on)
        told = [name, list(records), match_on, if_version]
        change = Change(caller, _UPSERT, told, idempotency_key, dry_run)
        call = Upsert(of, records, match_on, if_version, dry_run, change.id, caller.masks)

        async def make(changes: Transaction) -> Any:
            return (await upsert(changes, call)).to_json()

        return restored(await changed(self._store, change, make), dry_run=dry_run)

    async def plan_deletion(self, call: Deletion) -> Plan | None:
        """Return what `delete` would do; None when the call was answered before and will change nothing.

        Raises:
            InvalidInput: the filter finds too many.
            NotFound: there is no such record.
            VersionConflict: one is at another version than the caller thinks.
            KeyReused: the key was used with other arguments.
        """
        call = await self._chosen_by_filter(call)
        plan: Plan | None = await planned(
            self._store, call.change, lambda changes: plan_deletion(changes, call)
        )
        return plan

    async def delete(self, call: Deletion, *, planned_version: str | None = None) -> Deleted:
        """Delete records softly, if they are at `planned_version`, in one change set.

        Raises:
            as `plan_deletion`.
            Conflict: they are not what was planned.
        """
        call = await self._chosen_by_filter(call)
        change = call.change

        async def make(changes: Transaction) -> Any:
            return await delete(changes, call, change_set=change.id, planned=planned_version)

        return Deleted(**await changed(self._store, change, make))

    async def _chosen_by_filter(self, call: Deletion) -> Deletion:
        """Return the call with the ids that its filter finds now."""
        if call.where is None:
            return call
        found = await self.ids(call.caller, call.name, call.where, most=MOST)
        return replace(call, ids=[UUID(id_) for id_ in found])

    async def describe(
        self, caller: Caller, name: str, *, detail: Detail = "full"
    ) -> dict[str, Any]:
        """Return what a model must know to work with an object: fields, choices and, for deals, the stages.

        Args:
            caller: on whose behalf.
            name: the object.
            detail: only what it is, or the names of its fields with it, or everything.

        Raises:
            InvalidInput: there is no such object; the text lists those there are.
        """
        of = await shown_to(self._store, caller, name, extended=detail != "names")
        told = {"object": name, "about": of.about}
        if detail == "names":
            return told
        if detail == "fields":
            return {**told, "fields": list(of.fields)}
        schema = {
            **told,
            "sql_view": f"crm.{of.table}",
            "match_on": ["id", *of.match_on],
            "fields": [_described(field) for field in of.fields.values()],
        }
        if name == "deal":
            schema["stages"] = await self._store.stages(caller)
        return schema


def _page(
    fields: Sequence[FieldDef], rows: Sequence[tuple[Any, ...]], next_cursor: str | None = None
) -> Page:
    free = frozenset(field.name for field in fields if field.free_text)
    return Page(tuple(field.name for field in fields), _shown(fields, rows), next_cursor, free)


def _chosen(of: ObjectDef, names: Sequence[str] | None) -> tuple[FieldDef, ...]:
    if names:
        return tuple(of.field(name) for name in dict.fromkeys(names))
    return tuple(field for field in of.fields.values() if field.listed)


def _shown(fields: Sequence[FieldDef], rows: Sequence[tuple[Any, ...]]) -> Sequence[Sequence[Any]]:
    """Return the rows with every value of a masked field hidden, also the missing ones."""
    if not any(field.masked for field in fields):
        return rows
    return [
        [MASK if field.masked else value for field, value in zip(fields, row, strict=True)]
        for row in rows
    ]


def _order(of: ObjectDef, sort: str | None, query: str | None) -> Order:
    if sort is None:
        return Order(None if query else of.fields["id"], descending=True)
    if sort == _RELEVANCE:
        if query is None:
            raise InvalidInput("sort by relevance needs a query")
        return Order(None, descending=True)
    return Order(of.usable(sort.removeprefix("-")), descending=sort.startswith("-"))


def _question(
    caller: Caller, name: str, query: str | None, where: Filter | None, sort: str | None
) -> str:
    condition = where.model_dump_json() if where else None
    return json.dumps([caller.tenant, name, query, condition, sort])


def _described(field: FieldDef) -> dict[str, Any]:
    facts = {
        "name": field.name,
        "kind": field.kind,
        "about": field.about,
        "required": field.required or None,
        "default": field.default,
        "read_only": True if not field.writable else None,
        "masked": field.masked or None,
        "choices": list(field.choices) or None,
        "refers_to": field.refers_to,
    }
    return {key: value for key, value in facts.items() if value is not None}
