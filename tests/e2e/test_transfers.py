"""A client that reaches nothing but the gateway brings a file in, and takes one out, larger than any message may be."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StreamableHttpTransport

pytestmark = pytest.mark.blocking

ROWS, CHARS = 600, 9_000  # more than five megabytes


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    urls: dict[str, str]
    key: str

    def origin(self, service: str) -> str: ...


def companies(word: str) -> bytes:
    """Return a file of companies whose descriptions have the word."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "domain", "description"])
    writer.writerows(
        [word, f"{word}{n}.example", f"{word} {n} ".ljust(CHARS, "x")] for n in range(ROWS)
    )
    return text.getvalue().encode()


def digest_of(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.fixture
async def client(fleet: Fleet) -> Any:
    async def say_yes(*_: Any) -> ElicitResult[Any]:
        return ElicitResult(action="accept", content={"approve": True})

    transport = StreamableHttpTransport(fleet.urls["gateway"], auth=fleet.key)
    async with Client(transport, elicitation_handler=say_yes) as client:
        yield client


@pytest.fixture
async def http(fleet: Fleet) -> Any:
    """Somebody with a link and no key."""
    async with httpx.AsyncClient(timeout=60) as http:
        yield http


async def call(client: Client[Any], tool: str, **arguments: Any) -> Any:
    return (await client.call_tool(tool, arguments)).structured_content


async def test_a_file_goes_in_by_a_link_and_out_by_another(
    fleet: Fleet, client: Client[Any], http: httpx.AsyncClient
) -> None:
    word = uuid4().hex[:8]
    data = companies(word)
    opened = await call(client, "import_data", object="company")
    link = opened["upload_url"]
    assert link.startswith(fleet.origin("gateway"))
    half = len(data) // 2
    first = await http.put(link, content=data[:half], headers={"upload-complete": "?0"})
    assert (first.status_code, first.headers["upload-offset"]) == (200, str(half))
    assert (await http.head(link)).headers["upload-offset"] == str(half)
    rest = {"upload-offset": str(half), "repr-digest": digest_of(data)}
    assert (await http.put(link, content=data[half:], headers=rest)).status_code == 201
    told = {"object": "company", "upload_id": opened["upload_id"], "match_on": "domain"}
    done = await call(client, "import_data", **told, idempotency_key=f"import-{word}")
    assert (done["state"], done["created"], done["rejected"]) == ("done", ROWS, 0)

    named = {"field": "name", "value": word}
    columns = ["name", "domain", "description"]
    made = await call(client, "export_data", object="company", filter=named, columns=columns)
    assert made["url"].startswith(fleet.origin("gateway"))
    whole = await http.get(made["url"])
    assert hashlib.sha256(whole.content).hexdigest() == made["sha256"]
    assert whole.headers["repr-digest"] == digest_of(whole.content)
    assert sorted(whole.content.splitlines()) == sorted(data.splitlines())
    # Broken off, and gone on with where it ended.
    tail = {"range": f"bytes={half}-", "if-range": whole.headers["etag"]}
    resumed = await http.get(made["url"], headers=tail)
    assert (resumed.status_code, resumed.content) == (206, whole.content[half:])

    await call(client, "crm_undo", change_set_id=done["change_set_id"])
    left = await call(client, "segment_preview", object="company", filter=named)
    assert left["size"] == 0


async def test_a_link_that_was_changed_opens_nothing(
    client: Client[Any], http: httpx.AsyncClient
) -> None:
    made = await call(client, "export_data", sql="SELECT 1 AS one")
    parts = urlsplit(made["url"])
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert (await http.get(made["url"])).text == "one\n1\n"
    for changed in (
        {**query, "tenant": "other"},
        {**query, "expires": str(int(query["expires"]) + 3600)},
        {**query, "sig": "0" * 64},
        {},
    ):
        answer = await http.get(f"{parts.scheme}://{parts.netloc}{parts.path}", params=changed)
        assert answer.status_code == 404
    opened = await call(client, "import_data", object="company")
    forged = f"{opened['upload_url'][:-4]}0000"
    assert (await http.put(forged, content=b"x")).status_code == 404
