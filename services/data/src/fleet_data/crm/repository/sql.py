"""From the registry's fields and a caller's filter to SQL: names come from the registry, values are bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet_common.errors import InvalidInput
from fleet_data.crm.filters import All, AnyOf, Filter, Has, InSegment, Not, Operator, Where, moment
from fleet_data.crm.models import FieldDef, FieldKind, ObjectDef, Position, Search
from fleet_data.crm.relatives import joining

_TYPES: dict[FieldKind, str] = {
    "boolean": "boolean",
    "integer": "integer",
    "number": "numeric",
    "date": "date",
    "timestamp": "timestamptz",
    "id": "uuid",
}
_COMPARISONS: dict[Operator, str] = {
    "eq": "=",
    "ne": "IS DISTINCT FROM",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
}
_LIKE = 0.45  # word_similarity above which a misspelt word still counts as found
_MOST_CONDITIONS = 50
_MOST_JOINS = 8
_DEEPEST = 3  # joins within joins
_TIMES = ("date", "timestamp")
_BY_ID = "r0.id"
_NEVER_NULL = frozenset({"r0.created_at", "r0.updated_at", "r0.version"})

ParseValue = Callable[[FieldDef, Any], Any]


class Arguments:
    """Collects bound values; `bind` returns the placeholder."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def bind(self, value: Any, sql_type: str) -> str:
        """Return `$n::type` for a value."""
        self.values.append(value)
        return f"${len(self.values)}::{sql_type}"


def sql_type(field: FieldDef) -> str:
    """Return the PostgreSQL type of a field."""
    return _TYPES.get(field.kind, "text")


def columns(fields: Sequence[FieldDef]) -> str:
    """Return a select list, each value under the name of its field."""
    return ", ".join(
        f"props -> '{field.name}' AS {field.name}" if field.custom else field.name
        for field in fields
    )


def value_of(field: FieldDef, of: str = "r0") -> str:
    """Return the expression for a field's value, in the field's own type; `of` is the alias of its table."""
    return (
        f"({of}.props ->> '{field.name}')::{sql_type(field)}"
        if field.custom
        else f"{of}.{field.name}"
    )


def search_sql(search: Search, parse: ParseValue) -> tuple[str, list[Any]]:
    """Return the statement and arguments for one page; it fetches one row more than the page holds."""
    args = Arguments()
    score = _score(search, args)
    conditions = ["true"]
    if search.query is not None:
        conditions.append(f"{score} > {_LIKE}")
    if search.where is not None:
        conditions.append(condition_sql(search.of, search.where, search.related, args, parse))
    by = score if search.order.field is None else value_of(search.order.field)
    if search.after is not None:
        conditions.append(_after(search, by, search.after, args))
    direction = "DESC" if search.order.descending else "ASC"
    sql = (
        f"SELECT {columns(search.fields)}, {by} AS sort_value, id AS sort_id "  # noqa: S608 - names of the registry
        f"FROM crm.{search.of.table} r0 WHERE {' AND '.join(conditions)} "
        f"ORDER BY {_order_by(by, direction)} LIMIT {search.limit + 1}"
    )
    return sql, args.values


def condition_sql(
    of: ObjectDef,
    where: Filter,
    related: Mapping[str, ObjectDef],
    args: Arguments,
    parse: ParseValue,
) -> str:
    """Return the expression that is true for the rows `r0` of the object's view that meet a filter."""
    return _Compiler(related, args, parse).compile(where, _At(of, "r0"))


def _order_by(by: str, direction: str) -> str:
    """Return the order: NULLs last, ties by id. Where there is no NULL, an index of the column serves both ways."""
    if by == _BY_ID:
        return f"id {direction}"
    nulls = "" if by in _NEVER_NULL else " NULLS LAST"
    return f"{by} {direction}{nulls}, id {direction}"


def _score(search: Search, args: Arguments) -> str:
    """Return how well a row answers `query`: 1 when it contains it, else its trigram likeness, 0 to 1."""
    if search.query is None:
        return "1.0::float8"
    searched = ", ".join(value_of(f) for f in search.of.fields.values() if f.searched)
    text = f"concat_ws(' ', {searched})"
    query = args.bind(search.query, "text")
    pattern = args.bind(f"%{_escaped(search.query)}%", "text")
    return (
        f"(CASE WHEN {text} ILIKE {pattern} THEN 1.0::float8 "
        f"ELSE word_similarity({query}, {text})::float8 END)"
    )


def _after(search: Search, by: str, position: Position, args: Arguments) -> str:
    """Return the keyset condition: the rows that come after `position`, where NULLs come last."""
    beyond = "<" if search.order.descending else ">"
    id_ = args.bind(position.id, "uuid")
    if by == _BY_ID:
        return f"id {beyond} {id_}"
    if position.value is None:
        return f"({by} IS NULL AND id {beyond} {id_})"
    kind = "float8" if search.order.field is None else sql_type(search.order.field)
    value = args.bind(position.value, kind)
    if by in _NEVER_NULL:  # as one comparison of rows, which an index can begin in the middle with
        return f"({by}, id) {beyond} ({value}, {id_})"
    return f"({by} {beyond} {value} OR ({by} = {value} AND id {beyond} {id_}) OR {by} IS NULL)"


@dataclass(frozen=True, slots=True)
class _At:
    """Where in a statement a condition stands: in whose rows, under which alias, within how many joins."""

    of: ObjectDef
    alias: str
    depth: int = 0


class _Compiler:
    """Compiles one filter; its size is bounded, since each condition costs the server work."""

    def __init__(
        self, objects: Mapping[str, ObjectDef], args: Arguments, parse: ParseValue
    ) -> None:
        self._objects = objects
        self._args = args
        self._parse = parse
        self._conditions = 0
        self._joins = 0

    def compile(self, node: Filter, at: _At) -> str:
        """Return a boolean expression in parentheses."""
        self._conditions += 1
        if self._conditions > _MOST_CONDITIONS:
            raise InvalidInput(f"filter: at most {_MOST_CONDITIONS} conditions")
        match node:
            case All():
                return f"({' AND '.join(self.compile(each, at) for each in node.all)})"
            case AnyOf():
                return f"({' OR '.join(self.compile(each, at) for each in node.any)})"
            case Not():
                # A comparison with NULL is unknown; a caller who asks for "not" expects those rows.
                return f"(({self.compile(node.negated, at)}) IS NOT TRUE)"
            case Has():
                return f"({self._has(node, at)})"
            case InSegment():
                members = "SELECT record_id FROM crm.segment_members WHERE segment_id"
                return (
                    f"({at.alias}.id IN ({members} = {self._args.bind(str(node.segment), 'uuid')}))"
                )
            case Where():
                return f"({self._where(node, at)})"

    def _has(self, node: Has, at: _At) -> str:
        self._joins += 1
        if self._joins > _MOST_JOINS or at.depth == _DEEPEST:
            raise InvalidInput(
                f"filter: at most {_MOST_JOINS} related objects, {_DEEPEST} within each other"
            )
        other = _At(self._objects[node.has], f"r{self._joins}", at.depth + 1)
        meets = "true" if node.where is None else self.compile(node.where, other)
        mine, rows = ("id", self._linked(node.link, other)) if node.link else _pointing(at, other)
        # Nothing of `at` inside, and IS TRUE: asked once and hashed. As a join it is at the mercy of statistics, which
        # a table that was just filled does not have: 2,000 contacts took longer than ten seconds.
        return f"({at.alias}.{mine} IN (SELECT {rows} AND {meets})) IS TRUE"

    def _linked(self, link: str, other: _At) -> str:
        """Return the ids that a link of this type leads to from rows of `other`, or comes from."""
        kind = f"FROM crm.links WHERE type = {self._args.bind(link, 'text')}"
        return (
            f"e.mine FROM (SELECT from_id AS mine, to_id AS theirs {kind} UNION ALL SELECT to_id, from_id {kind}) e "
            f"JOIN crm.{other.of.table} {other.alias} ON {other.alias}.id = e.theirs WHERE true"
        )

    def _where(self, node: Where, at: _At) -> str:
        field = at.of.usable(node.field)
        value = value_of(field, at.alias)
        match node.op:
            case "is_null" | "not_null":
                return f"{value} IS {'NOT ' if node.op == 'not_null' else ''}NULL"
            case "in" | "not_in":
                return self._among(value, field, node)
            case "contains" | "starts_with":
                return self._like(value, field, node)
            case _:
                return self._compared(value, field, node)

    def _compared(self, value: str, field: FieldDef, node: Where) -> str:
        if node.value is None and node.op not in ("eq", "ne"):
            raise InvalidInput(f"filter on {field.name}: {node.op} needs a value")
        if node.value is None and node.op == "eq":
            return f"{value} IS NULL"
        return f"{value} {_COMPARISONS[node.op]} {self._bound(field, node.value)}"

    def _bound(self, field: FieldDef, value: Any) -> str:
        if isinstance(value, list):
            raise InvalidInput(f"filter on {field.name}: one value expected, not a list")
        if field.kind in _TIMES and isinstance(value, str) and (then := moment(value)):
            value = (then.date() if field.kind == "date" else then).isoformat()
        return self._args.bind(self._parse(field, value), sql_type(field))

    def _among(self, value: str, field: FieldDef, node: Where) -> str:
        if not isinstance(node.value, list) or not 1 <= len(node.value) <= 200:
            raise InvalidInput(f"filter on {field.name}: {node.op} needs a list of 1 to 200 values")
        values = [self._parse(field, each) for each in node.value]
        # Through text[]: the driver then needs no codec for arrays of every type.
        texts = self._args.bind([None if v is None else str(v) for v in values], "text[]")
        among = f"{value} = ANY({texts}::{sql_type(field)}[])"
        return among if node.op == "in" else f"({among}) IS NOT TRUE"

    def _like(self, value: str, field: FieldDef, node: Where) -> str:
        if sql_type(field) != "text" or not isinstance(node.value, str) or not node.value:
            raise InvalidInput(f"filter on {field.name}: {node.op} needs a text field and a text")
        lead = "%" if node.op == "contains" else ""
        return f"{value} ILIKE {self._args.bind(f'{lead}{_escaped(node.value)}%', 'text')}"


def _pointing(at: _At, other: _At) -> tuple[str, str]:
    """Return a column of `at`, and what it is equal to in rows of `other` that belong to it."""
    mine, theirs = joining(at.of, other.of)
    theirs = f"{other.alias}.{theirs}"
    return mine, f"{theirs} FROM crm.{other.of.table} {other.alias} WHERE {theirs} IS NOT NULL"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
