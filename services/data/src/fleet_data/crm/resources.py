"""What a model can read before it asks: the schema of each object."""

from __future__ import annotations

import json

from fastmcp.dependencies import Depends
from fastmcp.resources import resource

from fleet_data.claims import Caller
from fleet_data.crm.service import Crm
from fleet_data.deps import get_caller, get_crm


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


RESOURCES = (crm_schema,)
