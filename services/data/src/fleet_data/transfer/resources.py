"""The state of an export as a resource."""

from __future__ import annotations

from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.resources import resource
from pydantic_core import to_json

from fleet_common.errors import NotFound
from fleet_data.claims import Caller
from fleet_data.deps import get_caller, get_exports
from fleet_data.transfer.service import Exports


@resource(
    "export://{job}",
    name="export",
    title="An export",
    description="State, size, sha256 and, once it is done, a fresh link.",
    mime_type="application/json",
)
async def export_job(
    job: str, caller: Caller = Depends(get_caller), exports: Exports = Depends(get_exports)
) -> str:
    """Return the state of an export."""
    try:
        id_ = UUID(job)
    except ValueError:
        raise NotFound("job", job[:60]) from None
    return to_json(exports.desk.told(await exports.desk.status(caller, id_))).decode()


RESOURCES = (export_job,)
