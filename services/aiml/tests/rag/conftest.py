"""Vector stores to hold to one contract: embedded, qdrant-client's local mode, and a server over HTTP.

No Qdrant server comes in a package, so the HTTP one is qdrant-client's local mode behind the few REST
routes that the production adapter uses: the adapter, its serialisation and its errors are real. With
FLEET_TEST_QDRANT_URL or FLEET_TEST_ENGINES=docker set, the same tests also run on a real server.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio.to_thread
import pytest
from qdrant_client import AsyncQdrantClient, models
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet_aiml.embedding.batches import BatchLimits
from fleet_aiml.embedding.service import Embedder, EmbedQueue
from fleet_aiml.rag.bm25 import Bm25
from fleet_aiml.rag.edge import EdgeQdrant
from fleet_aiml.rag.models import BM25
from fleet_aiml.rag.remote import RemoteQdrant, connect
from fleet_aiml.rag.service import Rag
from fleet_aiml.rag.store import VectorStore
from fleet_aiml.testing import TEST_MODEL, WordEngine, word_spans
from fleet_common.testing import serving

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]


class QdrantOverHttp:
    """The REST routes of Qdrant that the adapter uses, in front of `engine`."""

    def __init__(self, engine: AsyncQdrantClient) -> None:
        self._engine = engine

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                self._route("GET", "/exists", self._exists, needs_collection=False),
                self._route("GET", "", self._describe),
                self._route("PUT", "", self._create, needs_collection=False),
                self._route("PUT", "/index", self._index),
                self._route("PUT", "/points", self._upsert),
                self._route("POST", "/points/delete", self._delete),
                self._route("POST", "/points/query/batch", self._query),
                self._route("POST", "/points/scroll", self._scroll),
            ]
        )

    def _route(
        self, method: str, path: str, handler: Handler, *, needs_collection: bool = True
    ) -> Route:
        async def endpoint(request: Request) -> Response:
            name = request.path_params["name"]
            if needs_collection and not await self._engine.collection_exists(name):
                return JSONResponse({"status": {"error": f"no {name}"}}, status_code=404)
            body = await request.json() if await request.body() else {}
            return JSONResponse({"result": await handler(name, body), "status": "ok", "time": 0.0})

        return Route(f"/collections/{{name}}{path}", endpoint, methods=[method])

    async def _exists(self, name: str, _: dict[str, Any]) -> Any:
        return {"exists": await self._engine.collection_exists(name)}

    async def _describe(self, name: str, _: dict[str, Any]) -> Any:
        return (await self._engine.get_collection(name)).model_dump(mode="json")

    async def _create(self, name: str, body: dict[str, Any]) -> Any:
        asked = models.CreateCollection.model_validate(body)
        return await self._engine.create_collection(
            name,
            vectors_config=asked.vectors,
            sparse_vectors_config=asked.sparse_vectors,
            metadata=asked.metadata,
        )

    async def _index(self, _: str, body: dict[str, Any]) -> Any:
        models.CreateFieldIndex.model_validate(body)
        return {"status": "completed"}

    async def _upsert(self, name: str, body: dict[str, Any]) -> Any:
        await self._engine.upsert(name, models.PointsList.model_validate(body).points)
        return {"status": "completed"}

    async def _delete(self, name: str, body: dict[str, Any]) -> Any:
        await self._engine.delete(name, models.FilterSelector.model_validate(body))
        return {"status": "completed"}

    async def _query(self, name: str, body: dict[str, Any]) -> Any:
        batch = models.QueryRequestBatch.model_validate(body)
        answers = await self._engine.query_batch_points(name, batch.searches)
        return [answer.model_dump(mode="json") for answer in answers]

    async def _scroll(self, name: str, body: dict[str, Any]) -> Any:
        asked = models.ScrollRequest.model_validate(body)
        records, following = await self._engine.scroll(
            name,
            scroll_filter=asked.filter,
            limit=asked.limit or 10,
            offset=asked.offset,
            with_payload=True,
            with_vectors=True,
        )
        points = [record.model_dump(mode="json") for record in records]
        return {"points": points, "next_page_offset": following}


async def client_of(url: str) -> AsyncQdrantClient:
    """Return a client; made in a thread, because it reads certificates."""
    return await anyio.to_thread.run_sync(lambda: connect(url, None, timeout_s=5))


@asynccontextmanager
async def edge_store(folder: Path) -> AsyncGenerator[VectorStore]:
    async with EdgeQdrant(folder) as store:
        yield store


@asynccontextmanager
async def local_store(_: Path) -> AsyncGenerator[VectorStore]:
    async with RemoteQdrant(AsyncQdrantClient(":memory:")) as store:
        yield store


@asynccontextmanager
async def http_store(_: Path) -> AsyncGenerator[VectorStore]:
    app = QdrantOverHttp(AsyncQdrantClient(":memory:")).app()
    async with serving(app) as url, RemoteQdrant(await client_of(url)) as store:
        yield store


@asynccontextmanager
async def server_store(url: str) -> AsyncGenerator[VectorStore]:
    prefix = f"test_{uuid4().hex}_"
    client = await client_of(url)
    async with RemoteQdrant(client, prefix=prefix) as store:
        yield store
        for collection in (await client.get_collections()).collections:
            if collection.name.startswith(prefix):
                await client.delete_collection(collection.name)


EMBEDDED = {"edge": edge_store, "local": local_store, "http": http_store}


@pytest.fixture(params=[*EMBEDDED, "server"])
def opening(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AbstractAsyncContextManager[VectorStore]:
    if request.param == "server":
        return server_store(request.getfixturevalue("qdrant_url"))
    return EMBEDDED[request.param](tmp_path / "vectors")


@pytest.fixture
async def store(opening: AbstractAsyncContextManager[VectorStore]) -> AsyncIterator[VectorStore]:
    async with opening as opened:
        yield opened


@pytest.fixture
def engine() -> WordEngine:
    return WordEngine()


@pytest.fixture
async def embedder(engine: WordEngine) -> AsyncIterator[Embedder]:
    limits = BatchLimits(max_tokens=4096, max_items=64, max_padding=0.9)
    async with EmbedQueue("words", lambda: engine, guess=len, limits=limits) as queue:
        yield Embedder(queue, TEST_MODEL)


@pytest.fixture
async def vectors(tmp_path: Path) -> AsyncIterator[VectorStore]:
    async with EdgeQdrant(tmp_path / "vectors") as opened:
        yield opened


@pytest.fixture
def rag(vectors: VectorStore, embedder: Embedder) -> Rag:
    return Rag(vectors, embedder, Bm25(BM25), word_spans)
