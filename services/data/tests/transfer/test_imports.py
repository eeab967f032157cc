from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pyarrow as pa  # type: ignore[import-untyped]  # it has no types
import pytest
from pyarrow import parquet

from fleet_common.errors import InvalidInput, KeyReused, NotFound
from fleet_data.claims import Caller
from fleet_data.crm.service import Crm
from fleet_data.history.service import History, undo_call
from fleet_data.transfer.imports import Imports
from fleet_data.transfer.models import Format, ImportRequest, Job
from fleet_data.transfer.uploads import Piece

Admin: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def _silently(_job: Job) -> None:
    """Report to nobody."""


async def imported(imports: Imports, caller: Caller, content: str, **asked: Any) -> Job:
    """Return the job of an import once it has ended."""
    upload = await imports.uploads.of_text(caller, content)
    request = ImportRequest(**{"object": "contact", "format": "csv", **asked, "upload": upload})
    job = await imports.start(caller, request, key=None)
    return await imports.desk.watch(caller, job, _silently)


def told(job: Job) -> dict[str, Any]:
    assert job.state == "done", job.error
    facts = dict(job.result or {})
    assert sum(facts[n] for n in ("created", "updated", "unchanged", "rejected")) == job.rows
    return facts


async def emails(crm: Crm, caller: Caller) -> dict[str, str]:
    page = await crm.search(caller, "contact", fields=["email", "last_name"], limit=200)
    return {row[0]: row[1] for row in page.rows}


MIXED = """email,last_name,lifecycle,company_id,first_name
ada@example.com,Lovelace,customer,,Ada
new@example.com,New,,,"Line
break"
same@example.com,Same,lead,,
nobody,Bad mail,lead,,
twice@example.com,First,lead,,
twice@example.com,Second,lead,,
lost@example.com,Lost,lead,00000000-0000-0000-0000-000000000000,
nameless@example.com,,lead,,
wrong@example.com,Wrong,sometimes,,
short@example.com,Short
"""


@pytest.mark.parametrize("dry_run", [True, False])
async def test_each_line_has_its_outcome_and_a_dry_run_says_what_happens(
    imports: Imports, crm: Crm, demo: Caller, files: Path, dry_run: bool
) -> None:
    await crm.upsert(
        demo,
        "contact",
        [
            {"email": "ada@example.com", "last_name": "Old"},
            {"email": "same@example.com", "last_name": "Same"},
        ],
    )
    job = await imported(imports, demo, MIXED, match_on="email", dry_run=dry_run)
    facts = told(job)
    assert [facts[n] for n in ("created", "updated", "unchanged", "rejected")] == [2, 1, 1, 6]
    assert {line: reason.split(":")[0] for line, reason in facts["rejects"]} == {
        6: "email",
        8: "an earlier line has the same email",
        9: "company_id points at nothing that exists",
        10: "a new contact needs last_name",
        11: "lifecycle",
        12: "2 values where the header has 5",
    }
    assert (facts["change_set_id"] is None) is dry_run
    found = await emails(crm, demo)
    assert found["ada@example.com"] == ("Old" if dry_run else "Lovelace")
    assert ("twice@example.com" in found) is not dry_run
    rejects = (files / "demo" / "imports" / str(job.file)).read_text()
    assert rejects.startswith("line,reason\n6,")
    assert imports.desk.link(job)


async def test_an_import_is_undone_as_a_whole(
    imports: Imports, crm: Crm, history: History, demo: Caller
) -> None:
    old = {"email": "ada@example.com", "last_name": "Old"}
    await crm.upsert(demo, "contact", [old])
    before = await emails(crm, demo)
    facts = told(await imported(imports, demo, MIXED, match_on="email"))
    assert await emails(crm, demo) != before
    set_id = UUID(facts["change_set_id"])
    done = await history.undo(undo_call(demo, set_id, None, dry_run=False), set_id)
    assert done.undone == facts["created"] + facts["updated"]
    assert await emails(crm, demo) == before == {"ada@example.com": "Old"}


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


@pytest.mark.parametrize(("format_", "packed"), [("jsonl", as_jsonl), ("parquet", as_parquet)])
async def test_other_formats_and_names_come_in_by_a_mapping_and_in_pieces(
    imports: Imports, crm: Crm, demo: Caller, format_: Format, packed: Any
) -> None:
    rows = [{"Mail": f"p{n}@example.com", "Name": f"P{n}", "Age": n} for n in range(3)]
    data = packed(rows)
    upload, link = await imports.uploads.open(demo)
    query = dict(pair.split("=") for pair in link.partition("?")[2].split("&"))

    async def body(part: bytes) -> Any:
        yield part

    middle = len(data) // 2
    await imports.uploads.receive(upload, query, Piece(body(data[:middle]), 0, completes=False))
    assert await imports.uploads.received(upload, query) == middle
    await imports.uploads.receive(upload, query, Piece(body(data[middle:]), middle))

    request = ImportRequest(
        "contact", format_, upload, {"Mail": "email", "Name": "last_name"}, "email"
    )
    job = await imports.start(demo, request, key="k")
    done = await imports.desk.watch(demo, job, _silently)
    assert told(done)["created"] == 3
    assert (await imports.start(demo, request, key="k")).id == job.id
    with pytest.raises(KeyReused):
        await imports.start(demo, replace(request, dry_run=True), key="k")
    assert await emails(crm, demo) == {f"p{n}@example.com": f"P{n}" for n in range(3)}


async def test_what_was_exported_is_matched_by_its_id(
    imports: Imports, crm: Crm, demo: Caller, other: Caller
) -> None:
    put = await crm.upsert(demo, "contact", [{"email": "a@example.com", "last_name": "A"}])
    theirs = await crm.upsert(other, "contact", [{"email": "t@example.com", "last_name": "T"}])
    content = (
        "id,version,email,last_name\n"
        f"{put.rows[0].id},1,b@example.com,B\n{theirs.rows[0].id},1,x@example.com,Stolen\n,,n@example.com,New\n"
    )
    facts = told(await imported(imports, demo, content))
    assert [facts[n] for n in ("created", "updated", "rejected")] == [1, 1, 1]
    assert facts["rejects"] == [[3, "contact not found"]]
    assert await emails(crm, demo) == {"n@example.com": "New", "b@example.com": "B"}
    assert await emails(crm, other) == {"t@example.com": "T"}


async def test_what_only_the_database_knows_is_found_line_by_line(
    imports: Imports, demo: Caller
) -> None:
    content = "name,score,email\n" + "".join(
        f"L{n},{500 if n in {3, 4070} else n % 100},l{n}@example.com\n" for n in range(4500)
    )
    facts = told(await imported(imports, demo, content, object="lead", match_on="email"))
    assert (facts["created"], facts["rejected"]) == (4498, 2)
    assert facts["rejects"] == [[5, "score is out of range"], [4072, "score is out of range"]]


@pytest.mark.parametrize(
    ("content", "asked", "error"),
    [
        ("nope\n1\n", {}, "no field 'nope'"),
        ("last_name\nA\n", {"match_on": "email"}, "no email to match on"),
        ("a,a\n1,2\n", {}, "two columns"),
        ('last_name\n\x00"x\n', {}, ""),
        ('{"last_name": "x"}', {"format": "parquet"}, "not Parquet"),
        ("email\n" + "x\n" * 10_001, {"match_on": "email"}, "more than 10000 lines"),
        ("a,b\nx,y\n", {"mapping": {"a": "email", "b": "email"}}, "two names lead to one field"),
    ],
)
async def test_a_file_that_cannot_be_meant_changes_nothing(  # noqa: PLR0917 - fixtures and parameters
    imports: Imports, crm: Crm, demo: Caller, content: str, asked: dict[str, Any], error: str
) -> None:
    job = await imported(imports, demo, content, **asked)
    assert job.state == "failed" or told(job)["created"] == 0
    assert error in str(job.error)
    assert await emails(crm, demo) == {}


async def test_a_masked_field_cannot_be_imported(imports: Imports, demo: Caller) -> None:
    masked = replace(demo, masks=frozenset({"contact.email"}))
    job = await imported(imports, masked, "email,last_name\na@example.com,A\n")
    assert job.state == "failed"
    assert "masked" in str(job.error)


async def test_an_upload_is_its_owners_and_no_larger_than_it_may_be(
    imports: Imports, demo: Caller, other: Caller
) -> None:
    upload = await imports.uploads.of_text(demo, "last_name\nA\n")
    request = ImportRequest("contact", "csv", upload)
    for stranger in (other, replace(demo, subject="key:other")):
        with pytest.raises(NotFound):
            await imports.start(stranger, request, key=None)
    with pytest.raises(InvalidInput, match="cannot be matched"):
        await imports.start(demo, replace(request, match_on="phone"), key=None)
