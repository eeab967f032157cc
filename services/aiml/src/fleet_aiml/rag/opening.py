"""Opens the vector store that the settings name. Drivers are imported only here and only when chosen."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio.to_thread

from fleet_aiml.rag.store import VectorStore
from fleet_aiml.settings import AimlSettings

if TYPE_CHECKING:
    from fleet_aiml.rag.edge import EdgeQdrant
    from fleet_aiml.rag.remote import RemoteQdrant

_TIMEOUT_S = 10


@asynccontextmanager
async def open_store(settings: AimlSettings) -> AsyncGenerator[VectorStore]:
    """Yield the server's store when there is a URL, else the embedded one.

    Raises:
        SettingsError: another process has the embedded store's folder.
    """
    async with await anyio.to_thread.run_sync(_make, settings) as store:
        yield store


def _make(settings: AimlSettings) -> EdgeQdrant | RemoteQdrant:
    """Import the driver and make the store; runs in a thread, because qdrant-client alone imports for seconds."""
    if settings.qdrant_url is None:
        from fleet_aiml.rag.edge import EdgeQdrant  # noqa: PLC0415

        return EdgeQdrant(settings.vector_path)
    from fleet_aiml.rag.remote import RemoteQdrant, connect  # noqa: PLC0415

    key = settings.qdrant_api_key
    secret = key.get_secret_value() if key else None
    return RemoteQdrant(connect(settings.qdrant_url, secret, timeout_s=_TIMEOUT_S))
