"""What an export copies: the one statement behind a caller's SQL, or behind an object and a filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fleet_common.errors import InvalidInput, PermissionDenied
from fleet_data.claims import Caller
from fleet_data.crm.filters import Filter
from fleet_data.crm.models import FieldDef, Order, Search
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.repository.sql import search_sql
from fleet_data.crm.values import parse_value
from fleet_data.query.models import Query
from fleet_data.query.service import one_statement
from fleet_data.transfer.models import ExportRequest

MASK = "***"
ROW_BYTES = 1024 * 1024  # a row of a file, as text
_FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the answer; `kind` is PostgreSQL's type, or `money2` for a numeric with two decimals."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Source:
    """A statement to copy, and which of its columns have exactly two decimals."""

    query: Query
    two_decimals: frozenset[str] = field(default=frozenset())


def source_of(caller: Caller, request: ExportRequest) -> Source:
    """Return what `request` copies.

    Raises:
        InvalidInput: a name or value is wrong, or neither SQL nor an object is named, or both are.
        PermissionDenied: the caller has masks, and SQL would show what they hide.
    """
    if (request.sql is None) == (request.object is None):
        raise InvalidInput("name either sql or an object to export")
    if request.sql is not None:
        return _of_sql(caller, request)
    return _of_object(caller, request)


def _of_sql(caller: Caller, request: ExportRequest) -> Source:
    if caller.masks:
        raise PermissionDenied(
            "SQL would show fields that are masked for your roles", hint="Export an object"
        )
    if request.columns is not None or request.where is not None:
        raise InvalidInput("columns and filter go with an object; with sql, write them there")
    return Source(Query(one_statement(request.sql or ""), (), request.max_rows, ROW_BYTES))


def _of_object(caller: Caller, request: ExportRequest) -> Source:
    of = OBJECTS[request.object or ""].masking(caller.masks)
    fields = [of.field(n) for n in dict.fromkeys(request.columns or of.fields)]
    search = Search(
        of=of,
        fields=tuple(f for f in fields if not f.masked),
        order=Order(of.fields["id"]),
        limit=request.max_rows,
        where=_filter(request.where),
    )
    sql, args = search_sql(search, parse_value)
    shown = ", ".join(map(_shown, fields))
    query = Query(f"SELECT {shown} FROM ({sql}) r", args, request.max_rows, ROW_BYTES)  # noqa: S608 - names of the registry
    exact = frozenset(f.name for f in fields if f.kind == "number" and not f.masked)
    return Source(query, exact)


def _shown(of: FieldDef) -> str:
    return f"'{MASK}' AS {of.name}" if of.masked else of.name


def _filter(stored: Any) -> Filter | None:
    if stored is None:
        return None
    try:
        return _FILTER.validate_python(stored)
    except ValidationError:
        raise InvalidInput("filter is not one") from None


def unique(columns: Sequence[Column]) -> None:
    """Check that every column has a name of its own, as all formats but CSV need it.

    Raises:
        InvalidInput: two have the same.
    """
    names = [column.name for column in columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f"two columns are called {twice[:60]!r}", hint="Name them with AS")
