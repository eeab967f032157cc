"""What a model sees of embeddings."""

from __future__ import annotations

from typing import Annotated

from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import Field

from fleet_aiml.deps import get_embedder
from fleet_aiml.embedding.models import Kind
from fleet_aiml.embedding.service import Embedder
from fleet_common.mcp import TABLE_SCHEMA, table, touches

_DIGITS = 7  # what a 32-bit float holds; more digits would be noise that costs tokens

Text = Annotated[str, Field(min_length=1, max_length=20_000)]


@tool(
    title="Embed texts",
    meta=touches(),
    tags={"embed"},
    output_schema=TABLE_SCHEMA,
    annotations=ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    ),
)
async def embed_texts(
    texts: Annotated[
        list[Text],
        Field(
            min_length=1,
            max_length=128,
            description="Texts; 256 tokens of each are read.",
        ),
    ],
    kind: Annotated[
        Kind,
        Field(description="query: a question; passage: what is searched."),
    ] = "passage",
    normalize: Annotated[
        bool,
        Field(description="Scale vectors to length 1; all-MiniLM-L6-v2's have it anyway."),
    ] = True,
    embedder: Embedder = get_embedder,
) -> ToolResult:
    """Turn texts into vectors for similarity, clustering or an index of your own.

    To search indexed documents use rag_search instead: it embeds the question itself.
    """
    vectors, tokens = await embedder.embed(texts, kind=kind, normalize=normalize)
    rows = [
        [count, [float(f"{value:.{_DIGITS}g}") for value in vector]]
        for count, vector in zip(tokens, vectors.tolist(), strict=True)
    ]
    extra = {
        "model": embedder.info.name,
        "revision": embedder.info.revision,
        "dimension": embedder.info.dimension,
    }
    return table(["tokens", "vector"], rows, extra=extra)


TOOLS = (embed_texts,)
