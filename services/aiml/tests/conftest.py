"""The server with a small engine and a store of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from fleet_aiml.deps import Deps
from fleet_aiml.embedding.service import Embedder, EmbedQueue
from fleet_aiml.rag.bm25 import Bm25
from fleet_aiml.rag.edge import EdgeQdrant
from fleet_aiml.rag.models import BM25
from fleet_aiml.rag.service import Rag
from fleet_aiml.server import SERVICE
from fleet_aiml.settings import AimlSettings
from fleet_aiml.testing import TEST_MODEL, WordEngine, word_spans
from fleet_common.auth import Principal
from fleet_common.mcp import Runtime
from fleet_common.mcp.server import create_server
from fleet_common.policy import BUILT_IN, Policy, PolicyFile
from fleet_common.testing import admin, principal


@asynccontextmanager
async def open_small(settings: AimlSettings, _: Runtime) -> AsyncGenerator[Deps]:
    """Open real services on an engine without a model."""
    async with (
        EmbedQueue("words", WordEngine, guess=len) as queue,
        EdgeQdrant(settings.vector_path) as store,
    ):
        embedder = Embedder(queue, TEST_MODEL)
        yield Deps(embedder, Rag(store, embedder, Bm25(BM25), word_spans), store)


def client_for(folder: Path, caller: Principal, policy: Policy = BUILT_IN) -> Client[Any]:
    settings = AimlSettings(vector_path=folder)
    runtime = replace(Runtime.create("aiml", "0", settings), policy=PolicyFile.fixed(policy))
    server = create_server(
        SERVICE, settings, runtime=runtime, open_deps=open_small, local_principal=caller
    )
    return Client(server)


@pytest.fixture
def small_deps() -> Any:
    return open_small


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client[Any]]:
    async with client_for(tmp_path, admin()) as connected:
        yield connected


@pytest.fixture
async def frugal_client(tmp_path: Path) -> AsyncIterator[Client[Any]]:
    """A client whose role may have one row of an answer."""
    role = {"scopes": ["aiml:read", "aiml:write"], "max_rows": 1}
    policy = Policy.model_validate({"version": 1, "roles": {"frugal": role}})
    async with client_for(tmp_path, principal("frugal"), policy) as connected:
        yield connected
