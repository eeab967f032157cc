"""What makes a document and a passage the same as before: hashes and deterministic ids.

A passage's id is a UUIDv5 of tenant, collection, document and the hash of what is embedded (and a counter
for repeated passages), so a passage that only moved keeps its id and its vector.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from fleet_aiml.rag.chunking import VERSION, Chunk
from fleet_aiml.rag.models import Chunking, CollectionSpec, Document

NAMESPACE = UUID("6f1c2b52-6a0e-5c3e-9d57-0f5b1a9a7c11")
_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk with its identity and everything the store keeps of it."""

    id: str
    embedded_text: str
    payload: dict[str, Any]


def content_hash(documents: Sequence[Document]) -> str:
    """Return the sha256 over all documents as given."""
    return _digest([document.model_dump(mode="json") for document in documents])


def document_hash(document: Document, chunking: Chunking, spec: CollectionSpec) -> str:
    """Return the sha256 of a document and of all that decides about its points."""
    settings = chunking.model_dump(mode="json")
    return _digest([document.model_dump(mode="json"), settings, spec.to_dict()])


def _digest(facts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def identify(
    tenant: str, collection: str, document: Document, chunks: Sequence[Chunk], digest: str
) -> list[Passage]:
    """Return the chunks of one document as passages."""
    seen: Counter[str] = Counter()
    passages = []
    for chunk in chunks:
        text = f"{chunk.heading}\n{chunk.text}" if chunk.heading else chunk.text
        chunk_hash = hashlib.sha256(f"{VERSION}{_SEPARATOR}{text}".encode()).hexdigest()
        parts = [tenant, collection, document.key, chunk_hash, str(seen[chunk_hash])]
        seen[chunk_hash] += 1
        point_id = str(uuid5(NAMESPACE, _SEPARATOR.join(parts)))
        payload = _payload(tenant, document, chunk) | {"doc_hash": digest, "chunks": len(chunks)}
        passages.append(Passage(point_id, text, payload))
    return passages


def _payload(tenant: str, document: Document, chunk: Chunk) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "doc_id": document.key,
        "uri": document.uri,
        "title": document.title,
        "heading": chunk.heading,
        "text": chunk.text,
        "start": chunk.start,
        "end": chunk.end,
        "first_line": chunk.first_line,
        "last_line": chunk.last_line,
        "metadata": document.metadata,
    }
