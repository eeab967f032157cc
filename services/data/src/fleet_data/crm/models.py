"""Nouns of the CRM: objects and their fields, pages, and what became of a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

from fleet_common.errors import InvalidInput, PermissionDenied
from fleet_data.crm.filters import Filter

ObjectName = Literal[
    "contact",
    "company",
    "deal",
    "lead",
    "activity",
    "note",
    "task",
    "link",
    "property",
    "segment",
    "consent",
    "suppression",
]
FieldKind = Literal[
    "boolean",
    "text",
    "email",
    "domain",
    "phone",
    "url",
    "integer",
    "number",
    "date",
    "timestamp",
    "enum",
    "id",
    "filter",
]
Detail = Literal["names", "fields", "full"]
Named = Literal["pipeline", "segment", "campaign"]
Outcome = Literal["created", "updated", "unchanged", "error"]
Scalar = str | int | float | bool | None

MASK = "***"
"""What a masked value shows as."""

CUSTOM = "x_"
"""How the names of custom properties begin, so that no field of ours ever has one."""


@dataclass(frozen=True, slots=True)
class FieldDef:
    """One field of an object.

    Attributes:
        name: column in the view and in the table.
        kind: what a value must look like.
        about: one line for whoever fills it in.
        required: a new record needs it.
        default: value of a new record that does not say.
        writable: crm_upsert may set it.
        listed: crm_search returns it unless told which fields to return.
        searched: `query` of crm_search looks into it.
        free_text: people outside wrote it, so it is fenced as untrusted in answers.
        masked: this caller may neither see its values nor learn them by searching, sorting or setting.
        fixed: set when the record is made and never after.
        custom: a property that the tenant added; its values are in `props`.
        choices: the allowed values of an enum.
        refers_to: the object an id belongs to.
        most: longest text, in characters.
        repeats: a field of other objects whose values stand here, too, so that it is masked where one of those is.
    """

    name: str
    kind: FieldKind = "text"
    about: str = ""
    required: bool = False
    default: Scalar = None
    writable: bool = True
    listed: bool = False
    searched: bool = False
    free_text: bool = False
    masked: bool = False
    fixed: bool = False
    custom: bool = False
    choices: tuple[str, ...] = ()
    refers_to: ObjectName | Literal["user"] | None = None
    most: int = 300
    repeats: str | None = None


@dataclass(frozen=True, slots=True)
class ObjectDef:
    """One kind of record.

    Attributes:
        name: as tools call it.
        table: name of the view in schema crm and of the table in schema store.
        about: one line for a model.
        match_on: fields, besides id, that find an existing record.
        is_extensible: tenants may add properties.
        masks: names of masked fields, those included that only a tenant or an old row of the log has.
    """

    name: ObjectName
    table: str
    about: str
    fields: Mapping[str, FieldDef]
    match_on: tuple[str, ...] = ()
    is_extensible: bool = True
    masks: frozenset[str] = frozenset()

    def field(self, name: str) -> FieldDef:
        """Return a field by name.

        Raises:
            InvalidInput: there is none of that name; the text lists those there are.
        """
        try:
            return self.fields[name]
        except KeyError:
            raise InvalidInput(
                f"{self.name} has no field {name[:60]!r}", hint=f"Fields: {', '.join(self.fields)}"
            ) from None

    def usable(self, name: str) -> FieldDef:
        """Return a field by name, for anything that would tell something about its values.

        Raises:
            InvalidInput: there is none of that name.
            PermissionDenied: it is masked.
        """
        field = self.field(name)
        if field.masked:
            raise PermissionDenied(
                f"{name} of {self.name} is masked for your roles: it cannot be searched, sorted by or set"
            )
        return field

    def masking(self, names: frozenset[str]) -> ObjectDef:
        """Return the object as callers have it for whom `names`, as `email` or `contact.email`, are masked."""
        prefix = f"{self.name}."
        own = {n.removeprefix(prefix) for n in names if "." not in n or n.startswith(prefix)}
        anywhere = {n.rpartition(".")[2] for n in names}
        masks = frozenset(own | {n for n, f in self.fields.items() if f.repeats in anywhere})
        masked = {
            n: replace(self.fields[n], masked=True, searched=False)
            for n in masks & self.fields.keys()
        }
        return replace(self, fields={**self.fields, **masked}, masks=masks)

    def extended(self, fields: Sequence[FieldDef]) -> ObjectDef:
        """Return the object with a tenant's own fields."""
        return replace(self, fields={**self.fields, **{f.name: f for f in fields}})

    @property
    def writable(self) -> tuple[FieldDef, ...]:
        """Return what crm_upsert may set."""
        return tuple(f for f in self.fields.values() if f.writable)


@dataclass(frozen=True, slots=True)
class Order:
    """What a page is sorted by; the id breaks ties. `field` None means by likeness to the query, best first."""

    field: FieldDef | None
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """The last row of a page: where the next begins. `value` is that of the sort field."""

    value: Scalar
    id: str


@dataclass(frozen=True, slots=True)
class Search:
    """One page to fetch; `related` are the objects that the filter is about besides, by name."""

    of: ObjectDef
    fields: tuple[FieldDef, ...]
    order: Order
    limit: int
    query: str | None = None
    where: Filter | None = None
    after: Position | None = None
    related: Mapping[str, ObjectDef] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segment:
    """A named selection as it is stored; `filter` is JSON, None for a list of members."""

    id: str
    name: str
    object: ObjectName
    filter: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in the order of `columns`; `free_text` are the columns that people outside wrote."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    next_cursor: str | None = None
    free_text: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Found:
    """Records by id, and the ids that are not there (or not this caller's)."""

    page: Page
    missing_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Draft:
    """A record as the caller wrote it, checked.

    Attributes:
        index: position in the call, from 0.
        values: the fields it names, in the form the database stores.
        match: the field and value that find the existing record; None makes a new one.
        version: the version the caller thinks the record is at.
    """

    index: int
    values: Mapping[str, Scalar]
    match: tuple[str, str] | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it is in the database."""

    id: UUID
    version: int
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Write:
    """A record to insert or to update: all writable fields, already merged."""

    index: int
    id: UUID
    values: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What became of one record of crm_upsert; `detail` is the error, or the diff of a dry run."""

    index: int
    outcome: Outcome
    id: str | None = None
    version: int | None = None
    detail: Any = None


@dataclass(frozen=True, slots=True)
class Upserted:
    """What became of a call of crm_upsert; `change_set_id` is None when nothing changed."""

    rows: Sequence[RowOutcome]
    change_set_id: str | None = None
    dry_run: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the answer as an idempotency key remembers it."""
        rows = [[r.index, r.outcome, r.id, r.version, r.detail] for r in self.rows]
        return {"rows": rows, "change_set_id": self.change_set_id, "counts": dict(self.counts)}
