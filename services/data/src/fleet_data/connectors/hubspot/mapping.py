"""What a field of ours is called at HubSpot, and how a value crosses over: tables, and two pure functions.

Several values of HubSpot may be one of ours; the first one listed is what ours is written as. A value that is none of
ours is left alone on both sides until somebody changes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from fleet_common.errors import InvalidInput
from fleet_data.connectors.hubspot.models import Remote, Synced
from fleet_data.crm.models import FieldDef, Scalar
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.values import parse_value

RECORD_ID = "fleet_record_id"
"""The property that holds our id: unique there, so that making a record twice makes one."""
_NO_NAME = "(no name)"
_STAGE = "stage"


@dataclass(frozen=True, slots=True)
class FieldMap:
    """One field.

    Attributes:
        incoming: HubSpot's value is taken, ours is never written there.
        choices: HubSpot's value → ours.
    """

    ours: str
    theirs: str
    incoming: bool = False
    choices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LinkMap:
    """A field of ours that is an association there.

    Attributes:
        type_id: of the association, as HubSpot defines it.
        is_primary: one of several counts, and it has this type.
    """

    ours: str
    to: Synced
    type_id: int
    is_primary: bool


@dataclass(frozen=True, slots=True)
class ObjectMap:
    """One kind of record.

    Attributes:
        kind: as HubSpot's paths call it.
        modified: its property with the time of the last change.
        key: field that finds the same record on the other side.
        name: field that a record must have here, and what stands in for it.
    """

    object: Synced
    kind: str
    modified: str
    name: tuple[str, ...]
    fields: Mapping[str, FieldMap]
    links: Mapping[str, LinkMap] = field(default_factory=dict)
    key: str | None = None
    customs: Mapping[str, FieldDef] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the fields of ours that are synced."""
        return (*self.fields, *self.links)

    @property
    def properties(self) -> list[str]:
        """Return the properties of HubSpot that are read."""
        return [*(each.theirs for each in self.fields.values()), RECORD_ID]

    def field(self, name: str) -> FieldDef:
        """Return what a value of ours must look like."""
        return self.customs[name] if name in self.customs else OBJECTS[self.object].fields[name]

    def with_customs(self, customs: Sequence[FieldDef], names: Mapping[str, str]) -> ObjectMap:
        """Return the map with those custom properties that HubSpot has under `names`."""
        known = {each.name: each for each in customs if each.name in names}
        more = {name: FieldMap(name, names[name]) for name in known}
        return replace(self, fields={**self.fields, **more}, customs=known)


def _fields(*fields: FieldMap | tuple[str, str]) -> dict[str, FieldMap]:
    made = [each if isinstance(each, FieldMap) else FieldMap(*each) for each in fields]
    return {each.ours: each for each in made}


_LIFECYCLE = {
    "subscriber": "subscriber",
    "lead": "lead",
    "salesqualifiedlead": "qualified",
    "marketingqualifiedlead": "qualified",
    "opportunity": "qualified",
    "customer": "customer",
    "evangelist": "customer",
    "other": "former",
}
# HubSpot's default pipeline and ours. An id of a stage is unique over all its pipelines.
STAGES = {
    "default/appointmentscheduled": "sales/new",
    "default/qualifiedtobuy": "sales/qualified",
    "default/presentationscheduled": "sales/proposal",
    "default/contractsent": "sales/negotiation",
    "default/decisionmakerboughtin": "sales/negotiation",
    "default/closedwon": "sales/won",
    "default/closedlost": "sales/lost",
}
_PLACE = (("country", "country"), ("city", "city"), ("phone", "phone"))

OBJECT_MAPS: dict[Synced, ObjectMap] = {
    "company": ObjectMap(
        "company",
        "companies",
        "hs_lastmodifieddate",
        ("name", "domain"),
        _fields(
            ("name", "name"),
            ("domain", "domain"),
            # There a closed list of its own, here free text.
            FieldMap("industry", "industry", incoming=True),
            ("employees", "numberofemployees"),
            ("annual_revenue", "annualrevenue"),
            ("website", "website"),
            ("description", "description"),
            *_PLACE,
        ),
        key="domain",
    ),
    "contact": ObjectMap(
        "contact",
        "contacts",
        "lastmodifieddate",
        ("last_name", "email"),
        _fields(
            ("first_name", "firstname"),
            ("last_name", "lastname"),
            ("email", "email"),
            ("title", "jobtitle"),
            FieldMap("lifecycle", "lifecyclestage", choices=_LIFECYCLE),
            *_PLACE,
        ),
        {"company_id": LinkMap("company_id", "company", 1, is_primary=True)},
        key="email",
    ),
    "deal": ObjectMap(
        "deal",
        "deals",
        "hs_lastmodifieddate",
        ("name",),
        _fields(
            ("name", "dealname"),
            ("amount", "amount"),
            ("currency", "deal_currency_code"),
            ("expected_close", "closedate"),
            FieldMap(_STAGE, "dealstage", choices=STAGES),
            ("description", "description"),
        ),
        {
            "company_id": LinkMap("company_id", "company", 5, is_primary=True),
            "contact_id": LinkMap("contact_id", "contact", 3, is_primary=False),
        },
    ),
}
"""In the order of a sync: a link needs its other end."""


def read(of: ObjectMap, told: Mapping[str, Any]) -> Remote:
    """Return a record of HubSpot's as ours would be; `told` is an object of its API, without associations."""
    properties: Mapping[str, str | None] = told["properties"]
    values: dict[str, Scalar] = {}
    unread: dict[str, str] = {}
    for name, each in of.fields.items():
        text = properties.get(each.theirs) or None
        if name == _STAGE and text is not None:
            text = f"{properties.get('pipeline') or 'default'}/{text}"
        try:
            values[name] = None if text is None else _read(of, each, text)
        except (InvalidInput, ValueError, InvalidOperation):
            unread[name] = str(text)
    for name in [name for name, value in values.items() if value is None and _is_needed(of, name)]:
        del values[name]  # ours has some value in its place, which is left alone
    return Remote(
        id=str(told["id"]),
        modified_ms=_ms(str(properties.get(of.modified) or told["updatedAt"])),
        values=values,
        unread=unread,
        record_id=_uuid(properties.get(RECORD_ID)),
    )


def write(of: ObjectMap, values: Mapping[str, Scalar]) -> tuple[dict[str, str], dict[str, Scalar]]:
    """Return what HubSpot is told of `values` (links aside), and what of them it has no word for."""
    properties: dict[str, str] = {}
    unsaid: dict[str, Scalar] = {}
    for name, value in values.items():
        each = of.fields.get(name)
        if each is None or each.incoming:
            continue
        text = _written(each, value)
        if text is None:
            unsaid[name] = value
        elif name == _STAGE:
            properties["pipeline"], _, properties[each.theirs] = text.partition("/")
        else:
            properties[each.theirs] = text
    return properties, unsaid


def ours_of(of: ObjectMap, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the synced fields of a record of ours, in the form that `read` has them."""
    told = dict(values)
    if _STAGE in of.fields:
        told[_STAGE] = f"{values['pipeline']}/{values[_STAGE]}"
    parsed = {n: parse_value(of.field(n), told.get(n)) for n in of.names if n != _STAGE}
    return {**parsed, **({_STAGE: told[_STAGE]} if _STAGE in of.fields else {})}


def new_record_of(of: ObjectMap, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return a record to make; one that has no name at HubSpot gets one."""
    first, *others = of.name
    known = next((str(values[n]) for n in others if values.get(n) is not None), _NO_NAME)
    return record_of({first: known.partition("@")[0], **values})


def record_of(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return values as crm_upsert takes them."""
    record = dict(values)
    if isinstance(stage := record.get(_STAGE), str):
        record["pipeline"], _, record[_STAGE] = stage.partition("/")
    return record


def _is_needed(of: ObjectMap, name: str) -> bool:
    definition = of.field(name)
    return definition.required or definition.default is not None


def _read(of: ObjectMap, each: FieldMap, text: str) -> Scalar:
    if each.choices:
        if text not in each.choices:
            raise ValueError(text)
        return each.choices[text]
    definition = of.field(each.ours)
    return parse_value(definition, _typed(definition, text))


def _typed(definition: FieldDef, text: str) -> Any:
    match definition.kind:
        case "integer" | "number":
            return Decimal(text)
        case "boolean":
            return (
                {"true": True, "false": False}[text.lower()]
                if text.lower() in {"true", "false"}
                else text
            )
        case "date":
            return _moment(text).date().isoformat() if "T" in text or text.isdigit() else text
        case "timestamp":
            return _moment(text).isoformat()
        case "url":
            return text if "://" in text else f"https://{text}"
        case _:
            return text


def _written(each: FieldMap, value: Scalar) -> str | None:
    """Return the text that HubSpot takes, empty to clear; None when it has no word for the value."""
    if value is None:
        return ""
    if each.choices:
        return next((theirs for theirs, ours in each.choices.items() if ours == value), None)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _moment(text: str) -> datetime:
    if text.lstrip("-").isdigit():
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _ms(text: str) -> int:
    return round(_moment(text).timestamp() * 1000)


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
