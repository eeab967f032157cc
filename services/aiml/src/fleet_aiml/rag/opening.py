"""Opens the vector store that the settings name. Drivers are imported only here and only when chosen."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fleet_aiml.rag.store import VectorStore
from fleet_aiml.settings import AimlSettings

_TIMEOUT_S = 10


@asynccontextmanager
async def open_store(settings: AimlSettings) -> AsyncGenerator[VectorStore]:
    """Yield the server's store when there is a URL, else the embedded one.

    Raises:
        SettingsError: another process has the embedded store's folder.
    """
    if settings.qdrant_url is None:
        from fleet_aiml.rag.edge import EdgeQdrant  # noqa: PLC0415

        async with EdgeQdrant(settings.vector_path) as embedded:
            yield embedded
        return
    from fleet_aiml.rag.remote import RemoteQdrant, connect  # noqa: PLC0415

    key = settings.qdrant_api_key
    client = connect(
        settings.qdrant_url, key.get_secret_value() if key else None, timeout_s=_TIMEOUT_S
    )
    async with RemoteQdrant(client) as remote:
        yield remote
