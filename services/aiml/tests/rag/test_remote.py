"""What only a server can do: be away, or answer with an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet_aiml.errors import VectorStoreUnavailable
from fleet_aiml.rag.models import BM25, CollectionSpec, Question, Where
from fleet_aiml.rag.remote import RemoteQdrant, connect
from fleet_common.testing import serving

SPEC = CollectionSpec("words", "1", 2, "1", BM25)
QUESTION = Question([1.0, 0.0], None, limit=1)


async def store_at(url: str) -> RemoteQdrant:
    return RemoteQdrant(await anyio.to_thread.run_sync(partial(connect, url, None, timeout_s=2)))


@pytest.fixture
async def answers() -> AsyncIterator[dict[str, Response]]:
    """Answers of a server by method and path; anything else is 404."""
    known: dict[str, Response] = {}

    async def answer(request: Request) -> Response:
        missing = JSONResponse({"status": {"error": "not found"}}, status_code=404)
        return known.get(f"{request.method} {request.url.path}", missing)

    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "PUT", "POST"])])
    async with serving(app) as url:
        known["url"] = Response(url)
        yield known


async def served(answers: dict[str, Response]) -> RemoteQdrant:
    return await store_at(bytes(answers.pop("url").body).decode())


async def test_a_server_that_is_away_is_unavailable() -> None:
    async with await store_at("http://127.0.0.1:9") as store:
        with pytest.raises(VectorStoreUnavailable) as away:
            await store.query_hybrid("docs", Where("demo"), QUESTION)
    assert away.value.retryable


async def test_a_server_that_fails_is_unavailable(answers: dict[str, Response]) -> None:
    answers["POST /collections/fleet_docs/points/query/batch"] = JSONResponse({}, 503)
    async with await served(answers) as store:
        with pytest.raises(VectorStoreUnavailable):
            await store.query_hybrid("docs", Where("demo"), QUESTION)


async def test_another_replica_may_create_the_collection_first(
    answers: dict[str, Response],
) -> None:
    answers["GET /collections/fleet_docs/exists"] = JSONResponse(
        {"result": {"exists": False}, "status": "ok", "time": 0}
    )
    answers["PUT /collections/fleet_docs"] = JSONResponse({"status": {"error": "exists"}}, 409)
    async with await served(answers) as store:
        await store.ensure_collection("docs", SPEC)
