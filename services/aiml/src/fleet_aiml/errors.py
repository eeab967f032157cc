"""The errors of this service, as leaves of the fleet's tree.

FleetError
├── NotConfigured
│   ├── ModelMissing          the weights are not installed, or not the pinned ones
│   └── EngineMissing         the chosen engine's package is not installed
├── Overloaded
│   └── ModelBusy             the model's queue is full, or longer than the caller's time
├── InvalidInput
│   └── BadFilter             a search filter names or compares something impossible
├── Conflict
│   └── CollectionMismatch    the collection was made with another model, chunker or BM25 setting
└── Unavailable
    └── VectorStoreUnavailable   the vector store cannot be reached
"""

from __future__ import annotations

from collections.abc import Iterable

from fleet_common.errors import (
    Conflict,
    InvalidInput,
    NotConfigured,
    Overloaded,
    Unavailable,
)


class ModelMissing(NotConfigured):
    """Raised when the model's files are absent or are not the pinned ones."""


class EngineMissing(NotConfigured):
    """Raised when the engine that the settings choose is not installed."""


class ModelBusy(Overloaded):
    """Raised when a model's queue is full, or would take longer than the caller has."""

    def __init__(self, engine: str, *, retry_after_s: float) -> None:
        super().__init__(f"the model {engine} has a full queue", retry_after_s=retry_after_s)


class BadFilter(InvalidInput):
    """Raised when a search filter cannot be understood."""


class CollectionMismatch(Conflict):
    """Raised when a collection was made with other settings than this process uses."""

    def __init__(self, name: str, differences: Iterable[str]) -> None:
        super().__init__(
            f"collection {name!r} was made with another setting: {'; '.join(differences)}",
            hint="Ingest into a new collection, or start the service with the model that made it",
        )


class VectorStoreUnavailable(Unavailable):
    """Raised when the vector store cannot be reached."""

    def __init__(self) -> None:
        super().__init__("the vector store")
