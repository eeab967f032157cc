"""What tools get: the services, opened once for the life of the process."""

from __future__ import annotations

from dataclasses import dataclass

from fastmcp.dependencies import Depends

from fleet_aiml.embedding.service import Embedder
from fleet_aiml.rag.service import Rag
from fleet_aiml.rag.store import VectorStore
from fleet_common.mcp import CurrentDeps


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything this service works with."""

    embedder: Embedder
    rag: Rag
    store: VectorStore


def _embedder(deps: Deps = CurrentDeps()) -> Embedder:
    return deps.embedder


def _rag(deps: Deps = CurrentDeps()) -> Rag:
    return deps.rag


get_embedder: Embedder = Depends(_embedder)
get_rag: Rag = Depends(_rag)
