"""Exports through the whole service: the tools, the resource and the link."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError

from fleet_common.mcp.app import create_app
from fleet_common.mcp.server import create_server
from fleet_common.testing import admin, serving, viewer
from fleet_data.claims import Caller
from fleet_data.crm.service import Crm
from fleet_data.server import SERVICE
from fleet_data.settings import Settings
from fleet_data.transfer.links import Links
from fleet_data.transfer.links import Path as Place


@pytest.fixture
def settings(settings: Settings, files: Path, tmp_path: Path) -> Settings:
    return settings.model_copy(
        update={"files_dir": files, "keys_file": tmp_path / "keys.json", "import_mb": 1}
    )


@pytest.fixture
async def client(settings: Settings) -> AsyncGenerator[Client[Any]]:
    async with Client(create_server(SERVICE, settings, local_principal=viewer())) as client:
        yield client


@pytest.fixture
async def http(settings: Settings) -> AsyncGenerator[httpx.AsyncClient]:
    app = await asyncio.to_thread(create_app, SERVICE, settings)
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


# Any: what a tool answers is what the tests look at.
async def call(client: Client[Any], tool: str, arguments: dict[str, Any]) -> Any:
    return await client.call_tool(tool, arguments)


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


async def test_a_file_is_made_by_a_tool_and_fetched_by_its_link(
    client: Client[Any], http: httpx.AsyncClient, crm: Crm
) -> None:
    await crm.upsert(Caller("demo", "key:any"), "note", [{"body": "b" * 99}])
    made = await call(client, "export_data", {"object": "note", "columns": ["body"]})
    told = made.structured_content
    assert (told["state"], told["rows"]) == ("done", 1)
    assert made.content[1].uri == f"export://{told['job_id']}"
    link = path_of(told["url"])

    whole = await http.get(link)
    assert whole.text == f"body\n{'b' * 99}\n"
    assert hashlib.sha256(whole.content).hexdigest() == told["sha256"]
    assert whole.headers["content-disposition"].endswith('-note.csv"')
    assert whole.headers["content-type"] == "text/csv; charset=utf-8"
    # Broken off and gone on with; nothing changed since; only asked for.
    etag = whole.headers["etag"]
    rest = await http.get(link, headers={"range": "bytes=50-", "if-range": etag})
    assert (rest.status_code, rest.content) == (206, whole.content[50:])
    assert (await http.get(link, headers={"if-none-match": etag})).status_code == 304
    assert (await http.head(link)).headers["content-length"] == str(len(whole.content))

    read: list[Any] = await client.read_resource(f"export://{told['job_id']}")
    assert json.loads(read[0].text)["sha256"] == told["sha256"]
    gone = await call(client, "export_status", {"job_id": told["job_id"], "cancel": True})
    assert gone.structured_content["state"] == "cancelled"
    assert "url" not in gone.structured_content
    assert (await http.get(link)).status_code == 410


async def test_a_link_opens_nothing_but_what_it_was_made_for(
    client: Client[Any], http: httpx.AsyncClient, settings: Settings
) -> None:
    made = await call(client, "export_data", {"sql": "SELECT 1 AS a"})
    parts = urlsplit(made.structured_content["url"])
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    forged = [
        {**query, "tenant": "other"},
        {**query, "expires": str(int(query["expires"]) + 1)},
        {**query, "sig": "0" * 64},
        {**query, "sig": "ü"},
        {},
    ]
    for each in forged:
        assert (await http.get(parts.path, params=each)).status_code == 404
    secret = settings.claims_key.get_secret_value()
    long_ago = Links(secret, "http://x", clock=lambda: 0.0)
    over = [long_ago.make(each, "demo", parts.path[9:], life_s=60) for each in get_args(Place)]
    assert (await http.get(path_of(over[0]))).status_code == 410
    assert (await http.put(path_of(over[1]), content=b"x")).status_code == 410
    for path in ("/exports/..%2f..%2fkeys.json", "/exports/%00", "/uploads/" + parts.path[9:]):
        assert (await http.get(path, params=query)).status_code in {404, 405}


async def test_a_file_is_uploaded_by_a_link_and_imported_by_a_tool(
    settings: Settings, http: httpx.AsyncClient
) -> None:
    async with Client(create_server(SERVICE, settings, local_principal=admin())) as client:
        opened = (await call(client, "import_data", {"object": "company"})).structured_content
        link, data = path_of(opened["upload_url"]), b"name,domain\nA,a.example\nB,bad\n"
        first = await http.put(link, content=data[:9], headers={"upload-complete": "?0"})
        assert (first.status_code, first.headers["upload-offset"]) == (200, "9")
        late = await http.put(link, content=data[5:], headers={"upload-offset": "5"})
        assert (late.status_code, late.headers["upload-offset"]) == (409, "9")
        assert (await http.head(link)).headers["upload-offset"] == "9"
        arguments = {"object": "company", "upload_id": opened["upload_id"], "match_on": "domain"}
        with pytest.raises(ToolError, match="finished upload"):
            await call(client, "import_data", arguments)
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        rest = {"upload-offset": "9", "repr-digest": f"sha-256=:{digest}:"}
        assert (await http.put(link, content=data[9:], headers=rest)).status_code == 201
        assert (await http.put(link, content=data)).status_code == 409  # it is whole

        done = (await call(client, "import_data", arguments)).structured_content
        assert (done["created"], done["rejected"], done["rejects"][0][0]) == (1, 1, 3)
        assert (await http.get(path_of(done["url"]))).text.startswith("line,reason\n3,")
        again = await call(client, "export_status", {"job_id": done["job_id"]})
        assert again.structured_content["created"] == 1


async def test_a_file_that_arrives_wrong_or_too_large_is_refused(
    settings: Settings, http: httpx.AsyncClient
) -> None:
    async with Client(create_server(SERVICE, settings, local_principal=admin())) as client:
        opened = (await call(client, "import_data", {"object": "company"})).structured_content
        link = path_of(opened["upload_url"])
        other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
        for headers, status in (
            ({"repr-digest": f"sha-256=:{other}:"}, 400),
            ({"repr-digest": "md5=:x:"}, 400),
            ({"upload-offset": "x"}, 400),
        ):
            assert (await http.put(link, content=b"a", headers=headers)).status_code == status
        large = await http.put(link, content=b"x" * (2**20 + 1))
        assert large.status_code == 413
        assert (await http.put("/uploads/" + "0" * 36, content=b"x")).status_code == 404


async def test_a_failed_export_is_an_error_that_says_why(client: Client[Any]) -> None:
    with pytest.raises(ToolError, match="division by zero"):
        await client.call_tool(
            "export_data", {"sql": "SELECT 1 / (g - 2) FROM generate_series(1, 3) g"}
        )


async def test_a_definition_stays_short(settings: Settings) -> None:
    async with Client(create_server(SERVICE, settings, local_principal=admin())) as client:
        tools = {tool.name: tool for tool in await client.list_tools()}
    for name in ("export_data", "export_status", "import_data"):
        size = len(tools[name].model_dump_json(by_alias=True, exclude_none=True))
        assert size <= 2200, f"{name}: {size}"
