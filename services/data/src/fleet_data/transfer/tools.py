"""Exports and imports as a model sees them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastmcp import Context
from fastmcp.dependencies import CurrentContext, Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ResourceLink, TextContent, ToolAnnotations
from pydantic import Field
from pydantic_core import to_json

from fleet_common.errors import InvalidInput, NotFound
from fleet_common.mcp import CurrentGrant, touches
from fleet_common.mcp.params import DryRun, IdempotencyKey
from fleet_common.policy import Grant
from fleet_common.tasks import running_task
from fleet_data.claims import Caller
from fleet_data.crm.annotations import AlikeFilter, AlikeObject, MaybeObject
from fleet_data.deps import get_caller, get_exports, get_imports
from fleet_data.transfer.desk import Desk
from fleet_data.transfer.imports import Imports
from fleet_data.transfer.models import Compression, ExportRequest, Format, ImportRequest, Job
from fleet_data.transfer.service import Exports

_READS = {"fleet/scope": "data:read"}  # it makes a file and changes no record
_JOB_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "job_id": {"type": "string"},
        "state": {"type": "string"},
        "url": {"type": "string"},
    },
}
_UPLOAD = {"upload_id": {"type": "string"}, "upload_url": {"type": "string"}}
_IMPORT_SCHEMA = {"type": "object", "properties": {**_JOB_SCHEMA["properties"], **_UPLOAD}}
_MOST_ROWS = 10**9


@tool(
    title="Export to a file",
    meta={**touches("private"), **_READS},
    annotations=ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
    ),
    output_schema=_JOB_SCHEMA,
    tags={"export"},
    task=True,
)
async def export_data(  # noqa: PLR0917 - parameters of a tool are named
    format: Annotated[Format, Field(description="Format of the file.")] = "csv",  # noqa: A002 - as below
    sql: Annotated[
        str | None,
        Field(max_length=20_000, description="As in db_query; or object; or segment_id."),
    ] = None,
    object: MaybeObject = None,  # noqa: A002 - the name callers know
    segment_id: Annotated[UUID | None, Field(description="Segment of records.")] = None,
    filter: AlikeFilter = None,  # noqa: A002 - as above
    columns: Annotated[
        list[str] | None, Field(max_length=100, description="Fields; all by default.")
    ] = None,
    compress: Annotated[Compression, Field(description="Packing of the file.")] = "none",
    idempotency_key: IdempotencyKey = None,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    exports: Exports = Depends(get_exports),
    ctx: Context = CurrentContext(),
) -> ToolResult:
    """Write all rows of a query, or all records of an object or segment, to a file.

    Returns a link for the user that works for an hour. Until `state` is `done`, ask export_status.
    """
    request = ExportRequest(
        format=format,
        compress=compress,
        sql=sql,
        object=object,
        segment=None if segment_id is None else str(segment_id),
        where=None if filter is None else filter.model_dump(mode="json", by_alias=True),
        columns=None if columns is None else tuple(columns),
        max_rows=grant.rows(_MOST_ROWS),
    )
    job = await exports.start(caller, request, key=_key(idempotency_key))
    return _answer(exports.desk, await exports.desk.watch(caller, job, _reporting(ctx)))


@tool(
    title="State of an export or import",
    meta={**touches("private"), **_READS},
    annotations=ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    ),
    output_schema=_JOB_SCHEMA,
    tags={"export"},
)
async def export_status(
    job_id: Annotated[UUID, Field(description="`job_id` of export_data or import_data.")],
    cancel: Annotated[
        bool, Field(description="True stops it, or deletes the file, and its link.")
    ] = False,
    caller: Caller = Depends(get_caller),
    exports: Exports = Depends(get_exports),
    imports: Imports = Depends(get_imports),
) -> ToolResult:
    """Say how far an export or import is, with a fresh link once it is done; or cancel it."""
    try:
        return await _state(exports.desk, caller, job_id, cancel=cancel)
    except NotFound:
        return await _state(imports.desk, caller, job_id, cancel=cancel)


@tool(
    title="Import from a file",
    meta=touches("private"),
    annotations=ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
    ),
    output_schema=_IMPORT_SCHEMA,
    tags={"import"},
    task=True,
)
async def import_data(  # noqa: PLR0917 - parameters of a tool are named
    object: AlikeObject,  # noqa: A002 - the name callers know
    format: Annotated[Format, Field(description="Format of the file.")] = "csv",  # noqa: A002 - as above
    content: Annotated[
        str | None, Field(max_length=1_000_000, description="The file, csv or jsonl.")
    ] = None,
    upload_id: Annotated[UUID | None, Field(description="Uploaded file.")] = None,
    mapping: Annotated[
        dict[str, str] | None,
        Field(max_length=200, description="{name in the file: field}."),
    ] = None,
    match_on: Annotated[str, Field(max_length=64, description="As in crm_upsert.")] = "id",
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
    caller: Caller = Depends(get_caller),
    imports: Imports = Depends(get_imports),
    ctx: Context = CurrentContext(),
) -> ToolResult:
    """Create and update records from a file; crm_undo takes it back.

    Without `content` and `upload_id` it returns a link: PUT the file there, then call again with its `upload_id`.
    Refused lines are in `rejects`, all of them behind `url`. An empty value empties the field.
    """
    if content is not None and upload_id is not None:
        raise InvalidInput("name either content or upload_id")
    if content is None and upload_id is None:
        return _awaited(imports, *await imports.uploads.open(caller))
    upload = str(upload_id) if content is None else await imports.uploads.of_text(caller, content)
    request = ImportRequest(object, format, upload, mapping, match_on, dry_run)
    job = await imports.start(caller, request, key=_key(idempotency_key))
    return _answer(imports.desk, await imports.desk.watch(caller, job, _reporting(ctx)))


TOOLS = (export_data, export_status, import_data)


def _awaited(imports: Imports, upload_id: str, link: str) -> ToolResult:
    """Return where a file can be sent."""
    megabytes = imports.uploads.most_bytes // 2**20
    facts = {"upload_id": upload_id, "upload_url": link, "most_mb": megabytes}
    return ToolResult(content=to_json(facts).decode(), structured_content=facts)


def _key(given: str | None) -> str | None:
    """Return what names the call: the caller's key, or the task, which may be run again when its worker dies."""
    if given is not None:
        return f"key:{given}"
    task = running_task()
    return None if task is None else f"task:{task.id}"


def _reporting(ctx: Context) -> Any:
    async def report(job: Job) -> None:
        await ctx.report_progress(job.bytes, None, f"{job.state}, {job.bytes} bytes")

    return report


async def _state(desk: Desk, caller: Caller, job_id: UUID, *, cancel: bool) -> ToolResult:
    return _answer(desk, await (desk.cancel if cancel else desk.status)(caller, job_id))


def _answer(desk: Desk, job: Job) -> ToolResult:
    facts = desk.told(job)
    content: list[Any] = [TextContent(type="text", text=to_json(facts).decode())]
    if job.state == "done" and "upload" not in job.request:
        asked = ExportRequest.of_json(job.request)
        link = ResourceLink(
            type="resource_link",
            uri=f"export://{job.id}",
            name=asked.file_name,
            mime_type=asked.media_type,
            size=job.bytes,
        )
        content.append(link)
    return ToolResult(content=content, structured_content=facts, is_error=job.state == "failed")
