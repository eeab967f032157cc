"""What signed links lead to: `GET /exports/{job}` gives the file of a job, `PUT /uploads/{id}` takes one."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

import anyio
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from fleet_common.errors import InvalidInput, NotFound
from fleet_data.deps import Deps
from fleet_data.transfer.errors import LinkGone
from fleet_data.transfer.models import ExportRequest, Job
from fleet_data.transfer.uploads import Piece, WrongOffset, digest_in


async def download(request: Request, deps: Deps) -> Response:
    """Answer with the file, or the ranges that were asked for: a broken download goes on where it ended."""
    job, path = await _found(deps, request.path_params["job"], request.query_params)
    if request.headers.get("if-none-match") == _etag(job):
        return Response(status_code=304, headers=_headers(job))
    if not await anyio.Path(path).exists():
        raise NotFound("file", "of this export", hint="Do all replicas share one folder?")
    media_type, name = _named(job)
    return FileResponse(
        path,
        headers=_headers(job),
        media_type=media_type,
        filename=f"{job.created_at[:10]}-{name}",
    )


def _named(job: Job) -> tuple[str, str]:
    """Return what the file of a job is, and what a browser calls it."""
    if "upload" in job.request:
        return "text/csv; charset=utf-8", "rejects.csv"
    asked = ExportRequest.of_json(job.request)
    return asked.media_type, asked.file_name


async def upload(request: Request, deps: Deps) -> Response:
    """Take a piece of a file, or say how much of it has arrived."""
    id_, query, uploads = request.path_params["id"], request.query_params, deps.imports.uploads
    if request.method == "HEAD":
        received = await uploads.received(id_, query)
        return Response(headers={"upload-offset": str(received), "cache-control": "no-store"})
    offset = request.headers.get("upload-offset", "0")
    if not offset.isdecimal():
        raise InvalidInput("upload-offset: a number of bytes expected")
    piece = Piece(
        request.stream(),
        int(offset),
        completes=request.headers.get("upload-complete", "?1") == "?1",
        sha256=digest_in(request.headers.get("repr-digest")),
    )
    try:
        received = await uploads.receive(id_, query, piece)
    except WrongOffset as exc:
        return Response(status_code=409, headers={"upload-offset": str(exc.found)})
    return Response(
        status_code=201 if piece.completes else 200, headers={"upload-offset": str(received)}
    )


async def _found(deps: Deps, job_id: str, query: Mapping[str, str]) -> tuple[Job, Path]:
    try:
        return await deps.exports.desk.file(job_id, query)
    except LinkGone:
        raise
    except NotFound:
        return await deps.imports.desk.file(job_id, query)


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
