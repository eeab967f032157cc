"""From the registry's fields and a caller's filter to SQL: names come from the registry, values are bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fleet_common.errors import InvalidInput
from fleet_data.crm.models import (
    All,
    AnyOf,
    FieldDef,
    FieldKind,
    Filter,
    Not,
    ObjectDef,
    Operator,
    Position,
    Search,
    Where,
)

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
_NEVER_NULL = frozenset({"created_at", "updated_at", "version"})

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


def value_of(field: FieldDef) -> str:
    """Return the expression for a field's value, in the field's own type."""
    return f"(props ->> '{field.name}')::{sql_type(field)}" if field.custom else field.name


def search_sql(search: Search, parse: ParseValue) -> tuple[str, list[Any]]:
    """Return the statement and arguments for one page; it fetches one row more than the page holds."""
    args = Arguments()
    score = _score(search, args)
    conditions = ["true"]
    if search.query is not None:
        conditions.append(f"{score} > {_LIKE}")
    if search.where is not None:
        conditions.append(_Compiler(search.of, args, parse).compile(search.where))
    by = score if search.order.field is None else value_of(search.order.field)
    if search.after is not None:
        conditions.append(_after(search, by, search.after, args))
    direction = "DESC" if search.order.descending else "ASC"
    sql = (
        f"SELECT {columns(search.fields)}, {by} AS sort_value, id AS sort_id "  # noqa: S608 - names of the registry
        f"FROM crm.{search.of.table} WHERE {' AND '.join(conditions)} "
        f"ORDER BY {_order_by(by, direction)} LIMIT {search.limit + 1}"
    )
    return sql, args.values


def _order_by(by: str, direction: str) -> str:
    """Return the order: NULLs last, ties by id. Where there is no NULL, an index of the column serves both ways."""
    if by == "id":
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
    if by == "id":
        return f"id {beyond} {id_}"
    if position.value is None:
        return f"({by} IS NULL AND id {beyond} {id_})"
    kind = "float8" if search.order.field is None else sql_type(search.order.field)
    value = args.bind(position.value, kind)
    if by in _NEVER_NULL:  # as one comparison of rows, which an index can begin in the middle with
        return f"({by}, id) {beyond} ({value}, {id_})"
    return f"({by} {beyond} {value} OR ({by} = {value} AND id {beyond} {id_}) OR {by} IS NULL)"


class _Compiler:
    """Compiles one filter; its size is bounded, since each condition costs the server work."""

    def __init__(self, of: ObjectDef, args: Arguments, parse: ParseValue) -> None:
        self._of = of
        self._args = args
        self._parse = parse
        self._conditions = 0

    def compile(self, node: Filter) -> str:
        """Return a boolean expression in parentheses."""
        self._conditions += 1
        if self._conditions > _MOST_CONDITIONS:
            raise InvalidInput(f"filter: at most {_MOST_CONDITIONS} conditions")
        match node:
            case All():
                return f"({' AND '.join(map(self.compile, node.all))})"
            case AnyOf():
                return f"({' OR '.join(map(self.compile, node.any))})"
            case Not():
                # A comparison with NULL is unknown; a caller who asks for "not" expects those rows.
                return f"(({self.compile(node.negated)}) IS NOT TRUE)"
            case Where():
                return f"({self._where(node)})"

    def _where(self, node: Where) -> str:
        field = self._of.usable(node.field)
        match node.op:
            case "is_null" | "not_null":
                return f"{value_of(field)} IS {'NOT ' if node.op == 'not_null' else ''}NULL"
            case "in" | "not_in":
                return self._among(field, node)
            case "contains" | "starts_with":
                return self._like(field, node)
            case _:
                return self._compared(field, node)

    def _compared(self, field: FieldDef, node: Where) -> str:
        if node.value is None and node.op not in ("eq", "ne"):
            raise InvalidInput(f"filter on {field.name}: {node.op} needs a value")
        if node.value is None and node.op == "eq":
            return f"{value_of(field)} IS NULL"
        return f"{value_of(field)} {_COMPARISONS[node.op]} {self._bound(field, node.value)}"

    def _bound(self, field: FieldDef, value: Any) -> str:
        if isinstance(value, list):
            raise InvalidInput(f"filter on {field.name}: one value expected, not a list")
        return self._args.bind(self._parse(field, value), sql_type(field))

    def _among(self, field: FieldDef, node: Where) -> str:
        if not isinstance(node.value, list) or not 1 <= len(node.value) <= 200:
            raise InvalidInput(f"filter on {field.name}: {node.op} needs a list of 1 to 200 values")
        values = [self._parse(field, value) for value in node.value]
        # Through text[]: the driver then needs no codec for arrays of every type.
        texts = self._args.bind([None if v is None else str(v) for v in values], "text[]")
        among = f"{value_of(field)} = ANY({texts}::{sql_type(field)}[])"
        return among if node.op == "in" else f"({among}) IS NOT TRUE"

    def _like(self, field: FieldDef, node: Where) -> str:
        if sql_type(field) != "text" or not isinstance(node.value, str) or not node.value:
            raise InvalidInput(f"filter on {field.name}: {node.op} needs a text field and a text")
        lead = "%" if node.op == "contains" else ""
        return (
            f"{value_of(field)} ILIKE {self._args.bind(f'{lead}{_escaped(node.value)}%', 'text')}"
        )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
