"""Undoing a change set: what was before is again, or nothing changes and the conflicts are named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fleet_cli.testing import PostgresServer
from fleet_common.errors import AlreadyExists, Conflict, NotFound, PermissionDenied
from fleet_data.claims import Caller
from fleet_data.crm.cursor import CursorSigner
from fleet_data.crm.deletion import Deletion
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.service import Crm
from fleet_data.crm.values import parse_value
from fleet_data.demo.commands import create_tenant
from fleet_data.history.models import Undone
from fleet_data.history.repository import HistoryRepository
from fleet_data.history.service import TABLES, History, undo_call
from fleet_data.pool import Database
from fleet_data.schema.commands import migrate_command
from fleet_data.schema.models import MIGRATIONS
from fleet_data.settings import Settings

VIEWS = "companies contacts leads deals activities notes tasks links properties".split()  # noqa: SIM905
OWN = "{version,created_at,created_by,updated_at,updated_by}"
WORDS = st.sampled_from(["Ada", "Grace", "Karen", None])
STAGES = st.sampled_from(["new", "qualified", "proposal", "won", "lost"])
AMOUNTS = st.one_of(st.none(), st.sampled_from([0, 12.5, 9999999999999.99]))
CONTACTS = st.fixed_dictionaries(
    {"email": st.sampled_from([f"{n}@example.com" for n in "abcd"]), "last_name": st.just("L")},
    optional={"first_name": WORDS, "title": WORDS, "x_note": WORDS},
)
CHANGES = st.one_of(
    st.tuples(st.just("contact"), st.lists(CONTACTS, min_size=1, max_size=4)),
    st.tuples(
        st.just("deal"),
        st.lists(
            st.fixed_dictionaries({"stage": STAGES, "amount": AMOUNTS}), min_size=1, max_size=2
        ),
    ),
    st.tuples(st.just("delete"), st.integers(0, 3)),
)


async def undo(history: History, caller: Caller, set_id: str | None, **how: Any) -> Undone:
    assert set_id is not None
    call = undo_call(caller, UUID(set_id), how.get("key"), dry_run=how.get("dry_run", False))
    return await history.undo(call, UUID(set_id))


async def snapshot(database: Database, caller: Caller) -> Any:
    """Return all that a reader sees of records, but who changed them last and how often."""
    rows = {}
    async with database.reading(caller) as connection:
        for view in VIEWS:
            sql = f"SELECT to_jsonb(v) - '{OWN}'::text[] AS row FROM crm.{view} v ORDER BY id"
            rows[view] = [row["row"] for row in await connection.fetch(sql)]
        history = await connection.fetch(
            "SELECT * FROM crm.deal_stage_history ORDER BY deal_id, entered_at"
        )
    return {**rows, "stages": [tuple(row.values()) for row in history]}


async def apply(crm: Crm, caller: Caller, change: tuple[str, Any], deals: list[str]) -> str | None:
    """Make a change and return its change set; None when it changed nothing."""
    what, how = change
    if what == "delete":
        page = await crm.search(caller, "contact", fields=["id"], sort="email")
        if how >= len(page.rows):
            return None
        return (
            await crm.delete(Deletion(caller, "contact", [UUID(page.rows[how][0])]))
        ).change_set_id
    records = how
    if what == "deal":
        records = [{**record, "id": id_} for record, id_ in zip(how, deals, strict=False)]
    match_on = "email" if what == "contact" else "id"
    name: Any = what
    return (await crm.upsert(caller, name, records, match_on=match_on)).change_set_id


@pytest.mark.timeout(60)  # 25 examples of up to a second
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # each example costs a second: a shorter one is not worth hundreds
    suppress_health_check=list(HealthCheck),
)
@given(changes=st.lists(CHANGES, min_size=1, max_size=3))
async def test_undoing_gives_back_what_was(
    crm: Crm, history: History, database: Database, demo: Caller, changes: list[tuple[str, Any]]
) -> None:
    await crm.upsert(demo, "property", [{"object": "contact", "name": "x_note"}])
    made = await crm.upsert(demo, "deal", [{"name": "one"}, {"name": "two", "stage": "lost"}])
    deals = [str(row.id) for row in made.rows]
    states, sets = [], []
    for change in changes:
        states.append(await snapshot(database, demo))
        sets.append(await apply(crm, demo, change, deals))
    after = await snapshot(database, demo)
    undoings = []
    for before, set_id in zip(reversed(states), reversed(sets), strict=True):
        if set_id is not None:
            told = await undo(history, demo, set_id, dry_run=True)
            done = await undo(history, demo, set_id)
            assert (told.undone, told.records) == (done.undone, done.records)
            undoings.append(done.change_set_id)
        assert await snapshot(database, demo) == before
    for set_id in reversed(undoings):  # undoing that gives back what came after
        await undo(history, demo, set_id)
    assert await snapshot(database, demo) == after


async def test_what_was_changed_since_is_a_conflict_and_all_stays(
    crm: Crm, history: History, database: Database, demo: Caller, other: Caller
) -> None:
    people = [{"last_name": name, "email": f"{name}@example.com"} for name in ("ada", "grace")]
    first = await crm.upsert(demo, "contact", people)
    later = await crm.upsert(demo, "contact", [{"id": first.rows[1].id, "title": "Rear admiral"}])
    before = await snapshot(database, demo)
    named = f"contact {first.rows[1].id}"
    told = await undo(history, demo, first.change_set_id, dry_run=True)
    assert (told.undone, told.conflicts) == (0, [named])
    call = undo_call(demo, UUID(first.change_set_id), None, dry_run=False)
    for refused in (history.undo, history.plan_undo):
        with pytest.raises(Conflict, match=f"changed since: {named}"):
            await refused(call, UUID(first.change_set_id))
    assert await snapshot(database, demo) == before
    await undo(history, demo, later.change_set_id)
    plan = await history.plan_undo(call, UUID(str(first.change_set_id)))
    assert plan is None or plan.details == {"contact, deleted": "2"}
    with pytest.raises(NotFound):
        await undo(history, other, first.change_set_id)
    with pytest.raises(NotFound):
        await undo(history, demo, str(uuid4()))


async def test_a_unique_value_that_was_taken_since_stops_the_undoing(
    crm: Crm, history: History, demo: Caller
) -> None:
    made = await crm.upsert(demo, "contact", [{"last_name": "A", "email": "a@example.com"}])
    gone = await crm.delete(Deletion(demo, "contact", [UUID(made.rows[0].id)]))
    await crm.upsert(demo, "contact", [{"last_name": "B", "email": "a@example.com"}])
    with pytest.raises(AlreadyExists, match="email"):
        await undo(history, demo, gone.change_set_id)


async def test_a_repeated_key_undoes_once_and_properties_are_for_administrators(
    crm: Crm, history: History, demo: Caller
) -> None:
    made = await crm.upsert(demo, "property", [{"object": "deal", "name": "x_a"}])
    assert made.change_set_id is not None
    call = undo_call(demo, UUID(made.change_set_id), "key-0001", dry_run=False)
    with pytest.raises(PermissionDenied, match="holds property"):
        await history.undo(call, UUID(made.change_set_id), but=frozenset({"property"}))
    answers = [
        await history.undo(replace(call, id=uuid4()), UUID(made.change_set_id)) for _ in "ab"
    ]
    assert answers[0] == answers[1]
    assert await history.plan_undo(call, UUID(made.change_set_id)) is None


async def test_history_names_who_changed_what_and_hides_what_is_masked(
    crm: Crm, history: History, demo: Caller, other: Caller
) -> None:
    made = await crm.upsert(demo, "lead", [{"name": "Ada", "email": "ada@example.com"}])
    id_ = UUID(made.rows[0].id)
    await crm.upsert(replace(demo, subject="key:else"), "lead", [{"id": str(id_), "score": 9}])
    await crm.delete(Deletion(demo, "lead", [id_]))
    first = await history.of_record(demo, "lead", id_, limit=2)
    rest = await history.of_record(demo, "lead", id_, limit=2, cursor=first.next_cursor)
    rows = [*first.rows, *rest.rows]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        (3, demo.subject, "crm_delete"),
        (2, "key:else", "crm_upsert"),
        (1, demo.subject, "crm_upsert"),
    ]
    assert list(rows[0][-1]) == ["deleted_at"]
    assert rows[1][-1] == {"score": [None, 9]}
    assert rows[2][-1]["email"] == [None, "ada@example.com"]
    assert rest.next_cursor is None
    masked = await history.of_record(
        replace(demo, masks=frozenset({"email"})), "lead", id_, limit=9
    )
    assert masked.rows[2][-1]["email"] == ["***", "***"]
    assert "ada@" not in json.dumps(masked.rows)
    with pytest.raises(NotFound):
        await history.of_record(other, "lead", id_, limit=9)


@pytest.mark.timeout(20)
async def test_a_large_change_is_logged_by_what_it_changed_and_undone_like_a_small_one(
    crm: Crm, history: History, database: Database, demo: Caller
) -> None:
    """Pairing the rows of before and after one with each other would take this test minutes."""
    async with database.writing(demo) as connection:
        await connection.execute(MANY, demo.tenant)
    first = (await crm.search(demo, "contact", fields=["id"], sort="email", limit=1)).rows[0][0]
    small = await crm.upsert(demo, "contact", [{"id": first, "title": "First"}])
    digest = f"SELECT md5(string_agg((to_jsonb(c) - '{OWN}'::text[])::text, '' ORDER BY id)) FROM store.contacts c"
    set_id = str(uuid4())
    async with database.writing(demo, settings={"app.change_set": set_id}) as connection:
        before = await connection.fetchval(digest)
        await connection.execute(
            "UPDATE store.contacts SET title = nullif(title || '\"', ''), props = '{\"x_a\": [1]}', updated_by = $1",
            demo.subject,
        )
        logged = await connection.fetch(
            "SELECT before, count(*) AS n FROM store.change_log WHERE change_set = $1 GROUP BY before ORDER BY n",
            set_id,
        )
    assert [(row["before"], row["n"]) for row in logged] == [
        ({"title": "First", "props": {}}, 1),
        ({"props": {}}, 3999),
    ]
    page = await history.of_record(demo, "contact", UUID(first), limit=3)
    assert [row[-1].get("title") for row in page.rows] == [
        ["First", 'First"'],
        [None, "First"],
        None,
    ]
    assert (await undo(history, demo, set_id)).undone == 4000
    async with database.writing(demo) as connection:
        assert await connection.fetchval(digest) == before
    assert (await undo(history, demo, small.change_set_id)).undone == 1


def test_what_was_logged_before_the_log_was_made_smaller_can_be_read_and_undone(
    postgres_server: PostgresServer,
    make_settings: Callable[..., Settings],
    open_database: Callable[[Settings], AbstractAsyncContextManager[Database]],
    monkeypatch: pytest.MonkeyPatch,
    demo: Caller,
) -> None:
    name = f"data_{uuid4().hex[:12]}"
    settings = make_settings(postgres_server.create_database(name))
    older = [migration for migration in MIGRATIONS if migration.number < 17]

    async def change() -> list[str | None]:
        async with open_database(settings) as database:
            crm = Crm(CrmRepository(database, parse=parse_value), CursorSigner("k" * 32))
            made = await crm.upsert(demo, "contact", [{"last_name": "A", "title": "One"}])
            id_ = str(made.rows[0].id)
            sets = [(await crm.upsert(demo, "contact", [{"id": id_, "title": t}])) for t in "23"]
            return [id_, *(each.change_set_id for each in sets)]

    async def look(id_: str, sets: list[str | None]) -> list[Any]:
        async with open_database(settings) as database:
            history = History(HistoryRepository(database, TABLES), CursorSigner("k" * 32))
            told = [(await undo(history, demo, set_id)).undone for set_id in reversed(sets)]
            page = await history.of_record(demo, "contact", UUID(id_), limit=9)
            return [told, [row[-1].get("title") for row in page.rows]]

    try:
        monkeypatch.setattr("fleet_data.schema.commands.MIGRATIONS", older)
        assert migrate_command(settings, []) == 0
        asyncio.run(create_tenant(settings, "demo"))
        id_, *sets = asyncio.run(change())
        monkeypatch.undo()
        assert migrate_command(settings, []) == 0
        titles = [["2", "One"], ["3", "2"], ["2", "3"], ["One", "2"], [None, "One"]]
        assert asyncio.run(look(str(id_), sets)) == [[1, 1], titles]
    finally:
        postgres_server.drop_database(name)


MANY = """
INSERT INTO store.contacts (tenant, id, last_name, email, lifecycle, created_by, updated_by)
SELECT $1, gen_random_uuid(), 'X', 'p' || n || '@example.org', 'lead', 't', 't' FROM generate_series(1, 4000) n
"""
