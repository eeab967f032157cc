"""Turning a lead into a contact, its company and a deal: what is there already is used, what is missing is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from fleet_common.errors import Conflict, NotFound
from fleet_data.crm.models import Scalar, Stored, Write
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.transaction import Transaction
from fleet_data.crm.values import new_record
from fleet_data.ids import uuid7
from fleet_data.pipeline.models import Conversion

# Mail of anybody: its domain is no company's.
_FREE_MAIL = frozenset(
    {
        *("gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "yahoo.com"),
        *("icloud.com", "aol.com", "gmx.de", "gmx.net", "web.de", "proton.me", "protonmail.com"),
        *("mail.ru", "qq.com", "163.com"),
    }
)


class Handover(Transaction, Protocol):
    """A transaction that also moves what is about a lead."""

    async def hand_over(self, lead_id: UUID, contact_id: UUID) -> None:
        """Let what is about a lead be about the contact too."""


@dataclass(slots=True)
class Outcome:
    """The records that a lead became, by object, and which of them were made."""

    ids: dict[str, UUID] = field(default_factory=dict)
    created: dict[str, bool] = field(default_factory=dict)


async def convert(changes: Handover, call: Conversion) -> Outcome:
    """Convert a lead and return what it became.

    Raises:
        NotFound: there is no such lead.
        Conflict: it was converted before.
    """
    lead = await _find(changes, "lead", "id", str(call.lead_id))
    if lead is None:
        raise NotFound("lead", call.lead_id)
    if lead.values["status"] == "converted":
        raise Conflict(f"the lead was converted to the contact {lead.values['contact_id']}")
    outcome = Outcome()
    await _company(changes, lead, outcome)
    contact = await _contact(changes, lead, outcome)
    if call.deal:
        await _deal(changes, call, lead, outcome)
    await changes.hand_over(lead.id, contact)
    done = {**lead.values, "status": "converted", "contact_id": str(contact)}
    await changes.write(OBJECTS["lead"], [Write(0, lead.id, done)])
    return outcome


async def _company(changes: Handover, lead: Stored, outcome: Outcome) -> None:
    domain = str(lead.values["email"] or "").partition("@")[2]
    name = lead.values["company_name"]
    known = None
    if domain and domain not in _FREE_MAIL:
        known = await _find(changes, "company", "domain", domain)
    if known is None and name:
        known = await _find(changes, "company", "name", str(name))
    if known is not None:
        outcome.ids["company"] = known.id
    elif name:
        own = domain if domain and domain not in _FREE_MAIL else None
        values = {"name": name, "domain": own, **_shared(lead, "country", "owner_id")}
        await _make(changes, "company", values, outcome)


async def _contact(changes: Handover, lead: Stored, outcome: Outcome) -> UUID:
    email = lead.values["email"]
    known = await _find(changes, "contact", "email", str(email)) if email else None
    if known is not None:
        outcome.ids["contact"] = known.id
        return known.id
    first, _, last = str(lead.values["name"]).rpartition(" ")
    company = outcome.ids.get("company")
    values = {
        "first_name": first or None,
        "last_name": last,
        "lifecycle": "qualified",
        "company_id": str(company) if company else None,
        **_shared(lead, "email", "phone", "title", "country", "owner_id", "description"),
    }
    return await _make(changes, "contact", values, outcome)


async def _deal(changes: Handover, call: Conversion, lead: Stored, outcome: Outcome) -> None:
    company = outcome.ids.get("company")
    values = {
        "name": call.deal_name or str(lead.values["company_name"] or lead.values["name"]),
        "amount": call.amount,
        "contact_id": str(outcome.ids["contact"]),
        "company_id": str(company) if company else None,
        **_shared(lead, "owner_id"),
    }
    await _make(changes, "deal", values, outcome)


async def _find(changes: Handover, name: str, field_name: str, value: str) -> Stored | None:
    of = OBJECTS[name]
    return (await changes.load(of, of.fields[field_name], [value])).get(value)


async def _make(
    changes: Handover, name: str, values: Mapping[str, Scalar], outcome: Outcome
) -> UUID:
    of, id_ = OBJECTS[name], uuid7()
    await changes.write(of, [Write(0, id_, new_record(of, values))])
    outcome.ids[name], outcome.created[name] = id_, True
    return id_


def _shared(lead: Stored, *names: str) -> dict[str, Scalar]:
    return {name: lead.values[name] for name in names}
