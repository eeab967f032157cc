"""Checking what callers write: from JSON to the form the database stores, with errors they can act on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from fleet_common.errors import InvalidInput
from fleet_data.crm.filters import Filter
from fleet_data.crm.models import Draft, FieldDef, FieldKind, ObjectDef, Scalar
from fleet_data.numbers import json_number

_EMAIL = re.compile(r"[^\s@<>()]+@[^\s@<>()]+\.[^\s@<>()]+")
_DOMAIN = re.compile(r"([a-z0-9_]([a-z0-9_-]*[a-z0-9])?\.)+[a-z0-9-]{2,}")
_URL = re.compile(r"https?://[^\s]+")
_INTEGER = range(-(2**31), 2**31)
_FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)
_NUMBER_MOST = Decimal(10) ** 16


def parse_draft(
    of: ObjectDef, index: int, record: Mapping[str, Any], *, match_on: str, if_version: int | None
) -> Draft:
    """Return a checked record of crm_upsert.

    Raises:
        InvalidInput: a field is unknown, not writable or has a wrong value; the text names it.
    """
    record = dict(record)
    version = parse_value(of.fields["version"], record.pop("version", if_version))
    id_ = parse_value(of.fields["id"], record.pop("id", None))
    values = {name: parse_value(_writable(of, name), value) for name, value in record.items()}
    match = ("id", str(id_)) if id_ is not None else _natural_match(values, match_on)
    if match is None:
        _require(of, values)
    return Draft(index, values, match, version if isinstance(version, int) else None)


def new_record(of: ObjectDef, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return all writable fields of a new record, defaults filled in.

    Raises:
        InvalidInput: a required field is missing.
    """
    _require(of, values)
    return {
        f.name: f.default if (value := values.get(f.name)) is None else value for f in of.writable
    }


def parse_value(field: FieldDef, value: Any) -> Scalar:
    """Return `value` in the form the database stores; empty text is None.

    Raises:
        InvalidInput: it is not a value of this field; the text names the field and what it wants.
    """
    if isinstance(value, str):
        value = value.strip() or None
    if value is None:
        return None
    try:
        return _PARSERS[field.kind](field, value)
    except (ValueError, TypeError, ArithmeticError):
        raise InvalidInput(f"{field.name}: {_WANTED[field.kind]}") from None


def _natural_match(values: Mapping[str, Scalar], match_on: str) -> tuple[str, str] | None:
    value = values.get(match_on)
    return None if value is None else (match_on, str(value))


def _require(of: ObjectDef, values: Mapping[str, Scalar]) -> None:
    missing = [f.name for f in of.writable if f.required and values.get(f.name) is None]
    if missing:
        raise InvalidInput(f"a new {of.name} needs {', '.join(missing)}")


def _writable(of: ObjectDef, name: str) -> FieldDef:
    field = of.usable(name)
    if not field.writable:
        raise InvalidInput(f"{name} cannot be set")
    return field


def _text(field: FieldDef, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    if len(value) > field.most:
        raise InvalidInput(f"{field.name}: at most {field.most} characters")
    if "\0" in value:
        raise InvalidInput(f"{field.name}: must not contain a NUL character")
    return value


def _matching(pattern: re.Pattern[str], *, lower: bool = False) -> Callable[[FieldDef, Any], str]:
    def parse(field: FieldDef, value: Any) -> str:
        text = _text(field, value)
        text = text.lower() if lower else text
        if not pattern.fullmatch(text):
            raise ValueError
        return text

    return parse


def _integer(_: FieldDef, value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value) or int(value) not in _INTEGER:
        raise ValueError
    return int(value)


def _number(_: FieldDef, value: Any) -> int | float | str:
    number = Decimal(str(value))
    if isinstance(value, bool) or not number.is_finite() or abs(number) >= _NUMBER_MOST:
        raise ValueError
    # Two decimals, as the database stores it: the same form means that an unchanged value is seen as such.
    return json_number(f"{number:.2f}")


def _date(_: FieldDef, value: Any) -> str:
    return date.fromisoformat(value).isoformat()


def _timestamp(_: FieldDef, value: Any) -> str:
    moment = datetime.fromisoformat(value)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    text = moment.replace(tzinfo=None).isoformat()
    # PostgreSQL writes no trailing zeros; the same text means that an unchanged value is seen as such.
    return (text.rstrip("0") if "." in text else text) + "Z"


def _choice(field: FieldDef, value: Any) -> str:
    if value not in field.choices:
        raise InvalidInput(f"{field.name}: one of {', '.join(field.choices)}")
    return str(value)


def _id(_: FieldDef, value: Any) -> str:
    return str(UUID(str(value)))


def _boolean(_: FieldDef, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _filter(_: FieldDef, value: Any) -> str:
    node = (
        _FILTER.validate_json(value) if isinstance(value, str) else _FILTER.validate_python(value)
    )
    return _FILTER.dump_json(node, by_alias=True, exclude_none=True).decode()


_PARSERS: dict[FieldKind, Callable[[FieldDef, Any], Scalar]] = {
    "boolean": _boolean,
    "text": _text,
    "email": _matching(_EMAIL, lower=True),
    "domain": _matching(_DOMAIN, lower=True),
    "phone": _text,
    "url": _matching(_URL),
    "integer": _integer,
    "number": _number,
    "date": _date,
    "timestamp": _timestamp,
    "enum": _choice,
    "id": _id,
    "filter": _filter,
}
_WANTED: dict[FieldKind, str] = {
    "boolean": "true or false expected",
    "text": "text expected",
    "email": "a mail address expected, such as ada@example.com",
    "domain": "a domain expected, such as example.com",
    "phone": "text expected",
    "url": "a web address expected, such as https://example.com",
    "integer": "a whole number expected",
    "number": "a number expected, below 10^16",
    "date": "a date expected, such as 2026-11-21",
    "timestamp": "a time expected, such as 2026-11-21T09:30:00Z",
    "enum": "one of the allowed values expected",
    "id": "an id expected, as crm_search returns it",
    "filter": "a filter expected, as crm_search takes it",
}
