"""The page and its JSON twin, over HTTP and on a real Valkey: who may look, who may decide, and what is refused."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.applications import Starlette

from fleet_cli.engines.freeport import free_port
from fleet_common.approvals import Ask, Plan, Request
from fleet_common.approvals.desk import Desk
from fleet_common.audit import AuditLog
from fleet_common.audit.writer import Pace
from fleet_common.auth.internal import generate_keypair
from fleet_common.auth.keys import KeyFile
from fleet_common.mcp import Runtime
from fleet_common.redis import create_redis
from fleet_common.switches import Switchboard
from fleet_common.testing import serving, wait_until
from fleet_common.testing.audit import MemorySink
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

JSON = {"accept": "application/json"}
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@dataclass(frozen=True)
class Office:
    """A gateway, the desk that services leave requests at, and keys of a tenant of this test's own."""

    http: httpx.AsyncClient
    desk: Desk
    tenant: str
    boss: str
    agent: str
    stranger: str

    async def ask(self, *, second_person: bool = False, subject: str = "key:agent") -> Request:
        """Leave a request."""
        plan = Plan(f"Delete the contact {EVIL}", {"note": EVIL}, "3")
        ask = Ask(self.tenant, subject, "crm_delete", uuid4().hex, plan)
        claim = await self.desk.claim(ask, second_person=second_person)
        assert claim.request is not None
        return claim.request

    async def look(self, request: Request, key: str) -> httpx.Response:
        """Type a key into the form."""
        return await self.http.post(f"/approve/{request.id}", data={"key": key})

    async def decide(self, request: Request, ticket: str, verdict: str) -> httpx.Response:
        """Press a button."""
        form = {"ticket": ticket, "verdict": verdict}
        return await self.http.post(f"/approve/{request.id}", data=form)

    async def waits(self, request: Request) -> bool:
        return await self.desk.find(self.tenant, request.id) is not None


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    private, _ = generate_keypair()
    (tmp_path / "private.pem").write_bytes(private)
    nowhere = f"http://127.0.0.1:{free_port()}"
    return Settings.model_validate(
        {
            "keys_file": tmp_path / "keys.json",
            "internal_private_key_file": tmp_path / "private.pem",
            "redis_url": redis_url,
            "approvals_key": uuid4().hex,
            "services": f"data={nowhere}",
        }
    )


@pytest.fixture
def keys(settings: Settings) -> tuple[str, str, str, str]:
    """A tenant, and keys: a person's, an agent's that may do everything, a person's of another tenant."""
    tenant = f"t{uuid4().hex[:8]}"
    assert settings.keys_file is not None
    file = KeyFile(settings.keys_file)
    boss = file.create(name="boss", roles=["approver"], tenant=tenant).text
    agent = file.create(name="agent", roles=["admin"], tenant=tenant).text
    stranger = file.create(name="stranger", roles=["approver"], tenant=f"{tenant}-other").text
    return tenant, boss, agent, stranger


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def app(settings: Settings, sink: MemorySink) -> Starlette:
    audit = AuditLog(sink, service="gateway", pace=Pace(retry_s=0.01))
    runtime = replace(Runtime.create("gateway", "1", settings), audit=audit)
    return create_gateway(SERVICE, settings, runtime=runtime)


@pytest.fixture
async def office(
    settings: Settings, keys: tuple[str, str, str, str], app: Starlette
) -> AsyncGenerator[Office]:
    runtime = Runtime.create("data", "1", settings)
    assert runtime.approvals.desk is not None
    async with (
        runtime.opened(),
        serving(app) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        yield Office(http, runtime.approvals.desk, *keys)


class Tags(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def ticket_in(page: httpx.Response) -> str:
    found = re.search(r'name="ticket" value="([^"]+)"', page.text)
    assert found is not None
    return found[1]


def bearer(key: str) -> dict[str, str]:
    return {**JSON, "authorization": f"Bearer {key}"}


class TestThePage:
    async def test_a_person_looks_and_approves(self, office: Office) -> None:
        request = await office.ask()
        assert (
            'name="key" type="password"' in (await office.http.get(f"/approve/{request.id}")).text
        )
        page = await office.look(request, office.boss)
        assert "key:agent" in page.text
        done = await office.decide(request, ticket_in(page), "approved")
        assert (done.status_code, "Approved" in done.text) == (200, True)
        assert not await office.waits(request)

    async def test_nothing_is_told_before_the_key(self, office: Office) -> None:
        request = await office.ask()
        known = await office.http.get(f"/approve/{request.id}")
        assert known.text == (await office.http.get(f"/approve/{'0' * 32}")).text
        assert "Delete" not in known.text

    async def test_what_records_say_cannot_become_markup(self, office: Office) -> None:
        page = Tags()
        page.feed((await office.look(await office.ask(), office.boss)).text)
        assert EVIL in page.text
        assert page.tags.isdisjoint({"script", "img", "iframe", "a", "link"})
        assert not [name for name in page.attributes if name.startswith("on")]

    async def test_a_browser_is_told_to_run_and_load_nothing(self, office: Office) -> None:
        for page in (
            await office.http.get("/approve/x"),
            await office.look(await office.ask(), office.boss),
            await office.look(await office.ask(), "nonsense"),
        ):
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'sha256-")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert page.headers["cache-control"] == "no-store"
            assert page.headers["x-content-type-options"] == "nosniff"
            assert "set-cookie" not in page.headers
            assert "<script" not in page.text
            assert " style=" not in page.text

    async def test_the_key_is_never_shown_again(self, office: Office) -> None:
        request = await office.ask()
        page = await office.look(request, office.boss)
        wrong = await office.look(request, "fleet_abcdefgh_wrong")
        assert office.boss not in page.text
        assert "fleet_abcdefgh_wrong" not in wrong.text
        assert wrong.status_code == 401

    async def test_an_agents_key_may_not_even_look(self, office: Office) -> None:
        request = await office.ask()
        page = await office.look(request, office.agent)
        assert (page.status_code, "Delete" in page.text) == (403, False)
        assert await office.waits(request)

    async def test_people_of_another_tenant_find_nothing(self, office: Office) -> None:
        page = await office.look(await office.ask(), office.stranger)
        assert (page.status_code, "Delete" in page.text) == (404, False)

    @pytest.mark.parametrize("ticket", ["", "x", ".", "W10=.00", "é.é"])
    async def test_a_decision_without_a_good_ticket_is_refused(
        self, office: Office, ticket: str
    ) -> None:
        request = await office.ask()
        assert (await office.decide(request, ticket, "approved")).status_code == 401
        assert await office.waits(request)

    async def test_another_site_cannot_post_a_decision(self, office: Office) -> None:
        request = await office.ask()
        ticket = ticket_in(await office.look(request, office.boss))
        refused = await office.http.post(
            f"/approve/{request.id}",
            data={"ticket": ticket, "verdict": "approved"},
            headers={"origin": "https://evil.example"},
        )
        assert refused.status_code == 403
        assert await office.waits(request)

    async def test_our_own_page_can(self, office: Office) -> None:
        request = await office.ask()
        ticket = ticket_in(await office.look(request, office.boss))
        origin = str(office.http.base_url).rstrip("/")
        done = await office.http.post(
            f"/approve/{request.id}",
            data={"ticket": ticket, "verdict": "denied"},
            headers={"origin": origin},
        )
        assert (done.status_code, "Denied" in done.text) == (200, True)

    async def test_a_ticket_is_for_one_request(self, office: Office) -> None:
        one, two = await office.ask(), await office.ask()
        ticket = ticket_in(await office.look(one, office.boss))
        assert (await office.decide(two, ticket, "approved")).status_code == 401
        assert await office.waits(two)

    async def test_a_request_that_was_asked_anew_must_be_looked_at_anew(
        self, office: Office
    ) -> None:
        plan = Plan("Delete", {}, "3")
        ask = Ask(office.tenant, "key:agent", "crm_delete", "a" * 64, plan)
        first = (await office.desk.claim(ask, second_person=False)).request
        assert first is not None
        ticket = ticket_in(await office.look(first, office.boss))
        await office.decide(first, ticket, "approved")
        await office.desk.claim(ask, second_person=False)
        again = (await office.desk.claim(ask, second_person=False)).request
        assert again is not None
        assert again.id == first.id
        assert (await office.decide(again, ticket, "approved")).status_code == 404
        assert await office.waits(again)

    async def test_it_is_decided_once(self, office: Office) -> None:
        request = await office.ask()
        ticket = ticket_in(await office.look(request, office.boss))
        await office.decide(request, ticket, "denied")
        assert (await office.decide(request, ticket, "approved")).status_code == 404

    async def test_a_verdict_is_one_of_two(self, office: Office) -> None:
        request = await office.ask()
        ticket = ticket_in(await office.look(request, office.boss))
        assert (await office.decide(request, ticket, "maybe")).status_code == 400
        assert await office.waits(request)

    @pytest.mark.parametrize("body", [b"\xff\xfe", b"a=1&" * 20, b"key=" + b"x" * 20_000])
    async def test_a_form_that_is_not_ours_is_refused(self, office: Office, body: bytes) -> None:
        answer = await office.http.post("/approve/x", content=body)
        assert answer.status_code in {400, 401, 413}


class TestThePrograms:
    async def test_a_program_lists_looks_and_decides(self, office: Office) -> None:
        request = await office.ask()
        listed = await office.http.get("/approve", headers=bearer(office.boss))
        assert [each["id"] for each in listed.json()["approvals"]] == [request.id]
        shown = (
            await office.http.get(f"/approve/{request.id}", headers=bearer(office.boss))
        ).json()
        assert shown["lines"] == list(request.lines)
        done = await office.http.post(
            f"/approve/{request.id}",
            headers=bearer(office.boss),
            json={"nonce": shown["nonce"], "verdict": "approved"},
        )
        assert done.json() == {"verdict": "approved"}
        assert not await office.waits(request)

    async def test_without_a_persons_key_there_is_nothing(self, office: Office) -> None:
        request = await office.ask()
        paths: dict[str, Any] = {"/approve": None, f"/approve/{request.id}": None}
        for path in paths:
            assert (await office.http.get(path, headers=JSON)).status_code == 401
            refused = await office.http.get(path, headers=bearer(office.agent))
            assert refused.status_code == 403
            assert refused.json()["error"]["code"] == "permission_denied"
        assert (await office.http.get("/approve", headers=bearer(office.stranger))).json() == {
            "approvals": []
        }

    @pytest.mark.parametrize(
        "told", [{"verdict": "approved"}, {"verdict": "approved", "nonce": "x"}]
    )
    async def test_a_decision_names_what_was_looked_at(
        self, office: Office, told: dict[str, str]
    ) -> None:
        request = await office.ask()
        url = f"/approve/{request.id}"
        refused = await office.http.post(url, headers=bearer(office.boss), json=told)
        assert refused.status_code == 404
        assert await office.waits(request)

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 16_000])
    async def test_a_body_that_is_no_object_is_refused(self, office: Office, body: bytes) -> None:
        request = await office.ask()
        url = f"/approve/{request.id}"
        refused = await office.http.post(url, headers=bearer(office.boss), content=body)
        assert refused.status_code == 400


@pytest.fixture
async def board(settings: Settings) -> AsyncGenerator[Switchboard]:
    assert settings.redis_url is not None
    redis = create_redis(settings.redis_url.get_secret_value())
    yield Switchboard(redis)
    await redis.aclose(close_connection_pool=True)


async def test_who_is_switched_off_neither_sees_nor_decides(
    office: Office, board: Switchboard
) -> None:
    request = await office.ask()
    ticket = ticket_in(await office.look(request, office.boss))
    await board.disable("tenant", office.tenant, by="ops", reason="leaked")

    async def is_refused() -> bool:
        return (await office.http.get("/approve", headers=bearer(office.boss))).status_code == 403

    await wait_until(is_refused)
    decided = await office.decide(request, ticket, "approved")
    looked = await office.look(request, office.boss)
    told = {"nonce": request.nonce, "verdict": "approved"}
    url = f"/approve/{request.id}"
    program = await office.http.post(url, headers=bearer(office.boss), json=told)
    assert (decided.status_code, looked.status_code, program.status_code) == (403, 403, 403)
    assert program.json()["error"]["code"] == "disabled"
    assert "Delete" not in looked.text
    assert await office.waits(request)


async def test_a_ticket_ends_with_its_key(office: Office, settings: Settings) -> None:
    request = await office.ask()
    ticket = ticket_in(await office.look(request, office.boss))
    assert settings.keys_file is not None
    await asyncio.to_thread(KeyFile(settings.keys_file).revoke, office.boss)
    assert (await office.decide(request, ticket, "approved")).status_code == 403
    assert await office.waits(request)


async def test_who_asked_is_no_second_person(office: Office) -> None:
    subject = f"key:{office.boss.split('_')[1]}"
    request = await office.ask(second_person=True, subject=subject)
    page = await office.look(request, office.boss)
    assert "Somebody other than the one who asks" in page.text
    refused = await office.decide(request, ticket_in(page), "approved")
    assert refused.status_code == 403
    assert await office.waits(request)


@pytest.mark.parametrize(("verdict", "decision"), [("approved", "approve"), ("denied", "reject")])
async def test_who_decided_is_in_the_audit_log(
    office: Office, sink: MemorySink, verdict: str, decision: str
) -> None:
    request = await office.ask()
    ticket = ticket_in(await office.look(request, office.boss))
    await office.decide(request, ticket, verdict)

    async def recorded() -> bool:
        return len([each for each in sink.events if each["target"] == "crm_delete"]) == 2

    await wait_until(recorded)
    started, done = (each for each in sink.events if each["target"] == "crm_delete")
    assert (started["outcome"], done["outcome"]) == ("started", "ok")
    assert (done["decision"], done["tenant"]) == (decision, office.tenant)
    assert done["subject"] == f"key:{office.boss.split('_')[1]}"
    assert done["rule"] == f"approval {request.id} for key:agent"


async def test_what_cannot_be_recorded_is_not_decided(office: Office, sink: MemorySink) -> None:
    request = await office.ask()
    ticket = ticket_in(await office.look(request, office.boss))
    sink.fails = True
    assert (await office.decide(request, ticket, "approved")).status_code == 503
    assert await office.waits(request)


async def test_an_agent_that_tries_to_approve_is_recorded(office: Office, sink: MemorySink) -> None:
    await office.look(await office.ask(), office.agent)

    async def recorded() -> bool:
        return "fleet_approve" in sink.targets()

    await wait_until(recorded)
    (record,) = (each for each in sink.events if each["target"] == "fleet_approve")
    assert (record["decision"], record["outcome"]) == ("deny", "permission_denied")
    assert record["subject"] == f"key:{office.agent.split('_')[1]}"


@pytest.fixture(params=["none", "away"])
def lonely(request: pytest.FixtureRequest, settings: Settings) -> tuple[Starlette, int]:
    """A gateway without a Redis that answers, and the status it answers with."""
    away = f"redis://127.0.0.1:{free_port()}/0"
    redis_url, status = (None, 501) if request.param == "none" else (away, 503)
    changed = {**settings.model_dump(exclude={"redis_url"}), "redis_url": redis_url}
    return create_gateway(SERVICE, Settings.model_validate(changed)), status


async def test_without_redis_nothing_can_be_approved(
    lonely: tuple[Starlette, int], keys: tuple[str, str, str, str]
) -> None:
    app, status = lonely
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as http:
        page = await http.post("/approve/x", data={"key": keys[1]})
        listed = await http.get("/approve", headers=bearer(keys[1]))
    assert (page.status_code, listed.status_code) == (status, status)
