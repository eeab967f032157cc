"""The whole service, with the real model, over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from fleet_aiml.rag.opening import open_store
from fleet_aiml.rag.remote import RemoteQdrant
from fleet_aiml.server import SERVICE
from fleet_aiml.settings import AimlSettings
from fleet_common.auth.keys import KeyFile
from fleet_common.mcp.app import create_app
from fleet_common.testing import serving

HEAVY = ("onnxruntime", "tokenizers", "qdrant_client", "qdrant_edge", "torch", "grpc")


@pytest.fixture
def key(tmp_path: Path) -> str:
    return KeyFile(tmp_path / "keys.json").create(name="t", roles=["admin"], tenant="demo").text


@pytest.fixture
def settings(tmp_path: Path, key: str) -> AimlSettings:
    return AimlSettings(keys_file=tmp_path / "keys.json", vector_path=tmp_path / "vectors")


@pytest.mark.parametrize("era", ["2026-07-28", "2025-11-25"])
async def test_both_eras_ingest_and_search_with_the_real_model(
    settings: AimlSettings, key: str, era: str
) -> None:
    document = {"uri": "faq.md", "text": "# Refunds\n\nCustomers may return goods for 30 days.\n"}
    async with serving(create_app(SERVICE, settings)) as url:
        transport = StreamableHttpTransport(f"{url}/mcp", auth=key)
        mode: Any = "legacy" if era == "2025-11-25" else era
        async with Client(transport, mode=mode) as client:
            await client.call_tool("rag_ingest", {"documents": [document]})
            result = await client.call_tool("rag_search", {"query": "How do I get my money back?"})
    rows = json.loads(result.content[0].text)["rows"]
    assert rows[0][1] == "faq.md"


async def test_it_is_ready_and_exports_the_queue(settings: AimlSettings) -> None:
    async with serving(create_app(SERVICE, settings)) as url, httpx.AsyncClient() as web:
        ready = await web.get(f"{url}/readyz")
        metrics = (await web.get(f"{url}/metrics")).text
    assert ready.status_code == 200
    for name in ("depth", "tokens", "oldest_seconds"):
        assert f'aiml_queue_{name}{{engine="onnx",service="aiml"}} 0.0' in metrics


async def test_a_url_chooses_the_server(settings: AimlSettings) -> None:
    remote = settings.model_copy(update={"qdrant_url": "http://127.0.0.1:9"})
    async with open_store(remote) as store:
        assert isinstance(store, RemoteQdrant)


@pytest.mark.timeout(60)
def test_nothing_heavy_is_imported_at_the_start() -> None:
    code = f"import sys, fleet_aiml.server; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.timeout(60)
def test_main_prints_its_settings() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleet_aiml", "config"], check=True, capture_output=True, text=True
    )
    names = {row["variable"] for row in json.loads(done.stdout)["settings"]}
    assert {"FLEET_AIML_ENGINE", "FLEET_AIML_VECTOR_PATH", "FLEET_AIML_QDRANT_URL"} <= names
