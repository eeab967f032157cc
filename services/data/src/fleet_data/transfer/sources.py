"""What an export copies: the one statement behind a caller's SQL, or behind records and a filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from fleet_common.errors import InvalidInput, NotFound
from fleet_data.claims import Caller
from fleet_data.crm.filters import All, Filter, InSegment
from fleet_data.crm.models import CUSTOM, FieldDef, Order, Search
from fleet_data.crm.questions import Known, understood
from fleet_data.crm.repository.sql import search_sql, sql_type
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
    """A statement to copy.

    Attributes:
        two_decimals: columns that have exactly two decimals.
        is_the_callers: it is SQL of the caller's own.
    """

    query: Query
    two_decimals: frozenset[str] = field(default=frozenset())
    is_the_callers: bool = False


async def source_of(known: Known, caller: Caller, request: ExportRequest) -> Source:
    """Return what `request` copies; `known` is what the tenant has of its own.

    Raises:
        InvalidInput: a name or value is wrong, or not exactly one of SQL, object and segment is named.
        NotFound: there is no such segment.
        PermissionDenied: the caller has masks, and the filter would show what they hide.
    """
    if sum(each is not None for each in (request.sql, request.object, request.segment)) != 1:
        raise InvalidInput("name one of sql, object and segment_id to export")
    if request.sql is not None:
        return _of_sql(request)
    return await _of_records(known, caller, request)


def _of_sql(request: ExportRequest) -> Source:
    if request.columns is not None or request.where is not None:
        raise InvalidInput("columns and filter go with an object; with sql, write them there")
    query = Query(one_statement(request.sql or ""), (), request.max_rows, ROW_BYTES)
    return Source(query, is_the_callers=True)


async def _of_records(known: Known, caller: Caller, request: ExportRequest) -> Source:
    name, where = request.object or "", _filter(request.where)
    if request.segment is not None:
        id_ = UUID(request.segment)
        segment = await known.segment(caller, id_)
        if segment is None:
            raise NotFound("segment", id_)
        members = InSegment(segment=id_)
        name, where = segment.object, All(all=[members, where]) if where else members
    asked = await understood(known, caller, name, where, [CUSTOM])
    of = asked.of
    fields = [of.field(n) for n in dict.fromkeys(request.columns or of.fields)]
    search = Search(
        of=of,
        fields=tuple(f for f in fields if not f.masked),
        order=Order(of.fields["id"]),
        limit=request.max_rows,
        where=asked.where,
        related=asked.objects,
    )
    sql, args = search_sql(search, parse_value)
    shown = ", ".join(map(_shown, fields))
    query = Query(f"SELECT {shown} FROM ({sql}) r", args, request.max_rows, ROW_BYTES)  # noqa: S608 - names of the registry
    exact = frozenset(
        f.name for f in fields if f.kind == "number" and not f.masked and not f.custom
    )
    return Source(query, exact)


def _shown(of: FieldDef) -> str:
    if of.masked:
        return f"'{MASK}' AS {of.name}"
    # A file has columns of one type, not JSON.
    return f"({of.name} #>> '{{}}')::{sql_type(of)} AS {of.name}" if of.custom else of.name


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
