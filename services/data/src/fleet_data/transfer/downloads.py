"""`GET /exports/{job}`: the file of an export, to whoever has its signed link."""

from __future__ import annotations

import base64

import anyio
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from fleet_common.errors import NotFound
from fleet_data.deps import Deps
from fleet_data.transfer.models import ExportRequest, Job


async def download(request: Request, deps: Deps) -> Response:
    """Answer with the file, or the ranges that were asked for: a broken download goes on where it ended."""
    job, path = await deps.exports.desk.file(request.path_params["job"], dict(request.query_params))
    if request.headers.get("if-none-match") == _etag(job):
        return Response(status_code=304, headers=_headers(job))
    if not await anyio.Path(path).exists():
        raise NotFound("file", "of this export", hint="Do all replicas share one folder?")
    asked = ExportRequest.of_json(job.request)
    return FileResponse(
        path,
        headers=_headers(job),
        media_type=asked.media_type,
        filename=f"{job.created_at[:10]}-{asked.file_name}",
    )


def _headers(job: Job) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(job.sha256 or "")).decode()
    return {
        "etag": _etag(job),
        "repr-digest": f"sha-256=:{digest}:",  # RFC 9530
        "cache-control": "private, no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }


def _etag(job: Job) -> str:
    return f'"{job.sha256}"'
