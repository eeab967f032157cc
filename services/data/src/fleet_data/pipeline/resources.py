"""A pipeline that a model can read by address."""

from __future__ import annotations

from fastmcp.dependencies import Depends
from fastmcp.resources import resource
from pydantic_core import to_json

from fleet_common.errors import NotFound
from fleet_data.claims import Caller
from fleet_data.crm.service import Crm
from fleet_data.deps import get_caller, get_crm, get_pipeline
from fleet_data.pipeline.models import Report
from fleet_data.pipeline.repository import COLUMNS
from fleet_data.pipeline.service import Pipeline

_MOST = 200  # stages times currencies


@resource(
    "crm://pipeline/{id}",
    name="crm_pipeline",
    title="A pipeline",
    mime_type="application/json",
    tags={"crm"},
)
async def crm_pipeline(
    id: str,  # noqa: A002 - the name in the URI template
    caller: Caller = Depends(get_caller),
    crm: Crm = Depends(get_crm),
    pipeline: Pipeline = Depends(get_pipeline),
) -> str:
    """Return the stages of a pipeline by its key, and its deals counted and summed by stage."""
    stages = [
        each for each in (await crm.describe(caller, "deal"))["stages"] if each["pipeline"] == id
    ]
    if not stages:
        raise NotFound("pipeline", id[:64])
    rows = await pipeline.report(caller, Report(id, "stage", None, None), limit=_MOST)
    report = {"columns": COLUMNS, "rows": rows}
    return to_json({"pipeline": id, "stages": stages, "report": report}).decode()


RESOURCES = (crm_pipeline,)
