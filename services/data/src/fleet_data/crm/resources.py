"""What a model can read by address: schemas, records, and what a caller may ask for; and what completes an address."""

from __future__ import annotations

import json
from typing import get_args
from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.resources import resource
from mcp_types import ResourceTemplateReference
from pydantic_core import to_json

from fleet_common.errors import NotFound
from fleet_common.mcp import Completing, CurrentGrant
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.crm.models import Named
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.service import Crm
from fleet_data.crm.showing import fenced, warned
from fleet_data.deps import Deps, get_caller, get_crm


@resource(
    "crm://schema/{object}",
    name="crm_schema",
    title="Schema of a CRM object",
    mime_type="application/json",
    tags={"crm"},
)
async def crm_schema(
    object: str,  # noqa: A002 - the name in the URI template
    caller: Caller = Depends(get_caller),
    crm: Crm = Depends(get_crm),
) -> str:
    """Return fields, types, allowed values and links of contact, company, deal, lead, activity, note or task."""
    return json.dumps(await crm.describe(caller, object), separators=(",", ":"))


@resource(
    "data://limits",
    name="data_limits",
    title="Limits of this service",
    mime_type="application/json",
    tags={"crm"},
)
async def data_limits(grant: Grant = CurrentGrant()) -> str:
    """Return how much one call may ask for, and what is masked for the caller."""
    told = {
        "rows_per_answer": grant.max_rows,
        "records_per_upsert": 500,
        "ids_per_get": 100,
        "masked": sorted(grant.masks),
        "scopes": sorted(grant.scopes),
    }
    return json.dumps(told, separators=(",", ":"))


@resource(
    "crm://{object}/{id}",
    name="crm_record",
    title="A CRM record",
    mime_type="application/json",
    tags={"crm"},
)
async def crm_record(
    object: str,  # noqa: A002 - the name in the URI template
    id: str,  # noqa: A002 - as above
    caller: Caller = Depends(get_caller),
    crm: Crm = Depends(get_crm),
) -> str:
    """Return all fields of a record, such as crm://deal/01a1…; text that people wrote is fenced as untrusted."""
    if object not in OBJECTS:
        raise NotFound("object", object[:60])
    try:
        found = await crm.get(caller, object, [UUID(id)])
    except ValueError:
        raise NotFound(object, id[:60]) from None
    if found.missing_ids:
        raise NotFound(object, id)
    [row] = fenced(found.page, at_most=None)
    return to_json({**warned([row]), **dict(zip(found.page.columns, row, strict=True))}).decode()


RESOURCES = (crm_schema, data_limits, crm_record)
"""The general address comes last: the first that fits answers."""


async def complete(asked: Completing[Deps]) -> list[str]:
    """Return what an argument of a prompt or an address can be: objects, or names that the caller's tenant gave."""
    name, typed = asked.argument.name, asked.argument.value
    if name in _KNOWN:
        return [each for each in _KNOWN[name] if each.startswith(typed)]
    if isinstance(asked.ref, ResourceTemplateReference):
        name = _OF_ADDRESS.get(asked.ref.uri, name)
    kind = _NAMED.get(name)
    return await asked.deps.crm.names(get_caller(asked.grant), kind, typed) if kind else []


_NAMED: dict[str, Named] = {kind: kind for kind in get_args(Named)}
_KNOWN = {"object": tuple(OBJECTS), "stale_days": ("7", "14", "30", "60", "90")}
_OF_ADDRESS = {
    "crm://pipeline/{id}": "pipeline",
    "crm://segment/{id}": "segment",
    "crm://campaign/{id}/report": "campaign",
}
