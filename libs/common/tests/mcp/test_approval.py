"""Approvals from the outside: FastMCP's client in both eras, in memory and over HTTP, on a real Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.auth import BearerAuth
from fastmcp.client.client import CallToolResult
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.tools import tool
from mcp import MCPError
from mcp_types import InputRequiredResult, ToolAnnotations
from pydantic import BaseModel

from fleet_cli.engines.freeport import free_port
from fleet_common.approvals import Approver, Plan, needs_approval
from fleet_common.approvals.desk import Desk
from fleet_common.audit import AuditLog
from fleet_common.auth import Principal
from fleet_common.auth.keys import KeyFile
from fleet_common.errors import NotFound, PermissionDenied
from fleet_common.mcp import CurrentDeps, CurrentPlan, Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.mcp.middleware import ERROR_META
from fleet_common.mcp.server import create_server
from fleet_common.policy import BUILT_IN, ApprovalRule, Grant, PolicyFile
from fleet_common.redis import create_redis
from fleet_common.settings import ServiceSettings
from fleet_common.testing import principal, serving
from fleet_common.testing.audit import MemorySink
from fleet_common.testing.wire import answer, modern, text

KEY = "a-key-for-tests-that-seals-approvals-0001"
DESTROYS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)
Era = Literal["auto", "legacy"]


@dataclass
class Shelf:
    """Notes that all replicas of a test share."""

    versions: dict[str, int] = field(default_factory=lambda: {"1": 1, "2": 1})
    deleted: list[str] = field(default_factory=list)


class Deletion(BaseModel):
    note_id: str


async def plan_deletion(arguments: Deletion, _: Grant, shelf: Shelf) -> Plan | None:
    note_id = arguments.note_id
    if note_id == "nothing":
        return None
    if note_id not in shelf.versions:
        raise NotFound("note", note_id)
    return Plan(f"Delete note {note_id}", {"Note": note_id}, str(shelf.versions[note_id]))


@needs_approval(plan=plan_deletion)
@tool(annotations=DESTROYS)
async def note_delete(
    note_id: str,
    why: str = "",
    shelf: Shelf = CurrentDeps(),
    plan: Plan | None = CurrentPlan(),
) -> str:
    """Delete a note."""
    shelf.deleted.append(note_id)
    return f"deleted {note_id} at version {plan.object_version if plan else None}"


@tool(annotations=DESTROYS)
async def note_purge(everything: bool, shelf: Shelf = CurrentDeps()) -> str:
    """Delete all notes; has no planner."""
    shelf.deleted.extend(shelf.versions)
    return "purged"


class Fleet:
    """Makes replicas of one service that share settings, keys, Redis and notes."""

    def __init__(self, settings: ServiceSettings, shelf: Shelf, caller: Principal) -> None:
        self.settings = settings
        self.shelf = shelf
        self.caller = caller
        self.audited = MemorySink()
        assert settings.keys_file is not None
        keys = KeyFile(settings.keys_file)
        self.key, self.other_key = (
            keys.create(name="x", roles=["sales"], tenant=caller.tenant).text for _ in range(2)
        )
        self.service = Service(
            name="data",
            version="1",
            instructions="Notes.",
            settings=ServiceSettings,
            open_deps=self._open,
            tools=(note_delete, note_purge),
        )

    def client(
        self,
        era: Era = "auto",
        says: Callable[..., Any] | None = None,
        *,
        rules: Sequence[ApprovalRule] = (),
        caller: Principal | None = None,
        **changed: Any,
    ) -> Client[Any]:
        """Return an in-memory client of a fresh replica; `says` answers its questions."""
        settings = self.settings.model_copy(update=changed)
        policy = BUILT_IN.model_copy(update={"approvals": tuple(rules)})
        runtime = replace(
            Runtime.create("data", "1", settings),
            policy=PolicyFile.fixed(policy),
            audit=AuditLog(self.audited, service="data"),
        )
        server = create_server(
            self.service, settings, runtime=runtime, local_principal=caller or self.caller
        )
        return Client(server, mode=era, elicitation_handler=says)

    @asynccontextmanager
    async def http(
        self, era: Era, says: Callable[..., Any] | None = None
    ) -> AsyncGenerator[Client[Any]]:
        """Yield a client of a fresh replica on a real socket."""
        app = create_app(self.service, self.settings)
        async with serving(app) as url:
            transport = StreamableHttpTransport(f"{url}/mcp", auth=BearerAuth(self.key))
            async with Client(transport, mode=era, elicitation_handler=says) as client:
                yield client

    @asynccontextmanager
    async def desk(self) -> AsyncGenerator[Desk]:
        """Yield the desk as the gateway has it."""
        assert self.settings.redis_url is not None
        redis = create_redis(self.settings.redis_url.get_secret_value())
        try:
            yield Desk(redis)
        finally:
            await redis.aclose(close_connection_pool=True)

    def decisions(self) -> list[tuple[str, str, str]]:
        """Return what the audit log of the in-memory replicas says was decided: decision, outcome, rule."""
        return [(each["decision"], each["outcome"], each["rule"]) for each in self.audited.events]

    def _open(self, *_: Any) -> AbstractAsyncContextManager[Shelf]:
        return opened(self.shelf)


@asynccontextmanager
async def opened(shelf: Shelf) -> AsyncGenerator[Shelf]:
    yield shelf


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Fleet:
    """Replicas with a tenant of this test's own, so that no other test's approvals are seen."""
    settings = ServiceSettings.model_validate(
        {
            "redis_url": redis_url,
            "approvals_key": KEY,
            "keys_file": tmp_path / "keys.json",
            "approve_url": "https://fleet.example/approve",
        }
    )
    tenant = f"t{uuid4().hex[:8]}"
    return Fleet(settings, Shelf(), principal("sales", tenant=tenant, subject="key:agent"))


async def yes(message: str, *_: Any) -> ElicitResult[Any]:
    return ElicitResult(action="accept", content={"approve": True})


async def no(*_: Any) -> ElicitResult[Any]:
    return ElicitResult(action="decline")


async def delete(client: Client[Any], note_id: str = "1", **more: Any) -> CallToolResult:
    result: CallToolResult = await client.call_tool(
        "note_delete", {"note_id": note_id, **more}, raise_on_error=False
    )
    return result


def facts(result: CallToolResult) -> dict[str, Any]:
    """Return the facts of a refusal."""
    assert result.is_error
    assert result.meta is not None
    told: dict[str, Any] = result.meta[ERROR_META]
    return told


async def approve(fleet: Fleet, result: CallToolResult, *, by: str = "key:boss") -> None:
    """Approve what a refusal asks for, as the page does."""
    async with fleet.desk() as desk:
        request = await desk.find(fleet.caller.tenant, facts(result)["approval"]["id"])
        assert request is not None
        boss = Approver(fleet.caller.tenant, by)
        await desk.decide(request, boss, "approved")


class TestTheClientAsks:
    """2026-07-28 by multi round trip, the handshake era by elicitation over a two-way connection."""

    @pytest.fixture(params=["auto", "legacy"])
    def era(self, request: pytest.FixtureRequest) -> Era:
        return "auto" if request.param == "auto" else "legacy"

    async def test_a_yes_lets_the_call_through_with_its_plan(self, fleet: Fleet, era: Era) -> None:
        async with fleet.client(era, yes) as client:
            assert text(await delete(client)) == "deleted 1 at version 1"
        assert fleet.shelf.deleted == ["1"]

    async def test_the_question_is_the_servers_and_not_the_models(
        self, fleet: Fleet, era: Era
    ) -> None:
        asked = []

        async def listen(message: str, *_: Any) -> ElicitResult[Any]:
            asked.append(message)
            return await yes(message)

        async with fleet.client(era, listen) as client:
            await delete(client, why="harmless, just say yes")
        assert asked == ["Delete note 1\nNote: 1\nAsked for by key:agent with note_delete."]

    @pytest.mark.parametrize("action", ["decline", "cancel", "accept"])
    async def test_anything_but_a_yes_changes_nothing(
        self, fleet: Fleet, era: Era, action: Literal["decline", "cancel", "accept"]
    ) -> None:
        async def says(*_: Any) -> ElicitResult[Any]:
            content = {"approve": False} if action == "accept" else None
            return ElicitResult(action=action, content=content)

        async with fleet.client(era, says) as client:
            assert facts(await delete(client))["code"] == "approval_denied"
        assert fleet.shelf.deleted == []

    async def test_each_call_is_asked_for_anew(self, fleet: Fleet, era: Era) -> None:
        answers = iter([yes, no])

        async def says(*_: Any) -> ElicitResult[Any]:
            return await next(answers)("")

        async with fleet.client(era, says) as client:
            await delete(client)
            assert facts(await delete(client))["code"] == "approval_denied"
        assert fleet.shelf.deleted == ["1"]

    async def test_a_call_that_changes_nothing_is_not_asked_for(
        self, fleet: Fleet, era: Era
    ) -> None:
        async with fleet.client(era, no) as client:
            assert text(await delete(client, "nothing")) == "deleted nothing at version None"

    async def test_what_cannot_be_done_is_not_asked_for(self, fleet: Fleet, era: Era) -> None:
        async with fleet.client(era, yes) as client:
            assert facts(await delete(client, "9"))["code"] == "not_found"
            wrong = await client.call_tool("note_delete", {}, raise_on_error=False)
            assert facts(wrong)["message"] == "note_id: Field required"

    async def test_a_destructive_tool_without_a_planner_shows_its_arguments(
        self, fleet: Fleet, era: Era
    ) -> None:
        asked = []

        async def listen(message: str, *_: Any) -> ElicitResult[Any]:
            asked.append(message)
            return await no()

        async with fleet.client(era, listen) as client:
            await client.call_tool("note_purge", {"everything": True}, raise_on_error=False)
        assert asked[0].splitlines()[:2] == ["Run 'note_purge'", "everything: true"]
        assert fleet.shelf.deleted == []

    async def test_a_process_without_redis_can_still_ask(self, fleet: Fleet, era: Era) -> None:
        async with fleet.client(era, yes, redis_url=None) as client:
            assert text(await delete(client)) == "deleted 1 at version 1"


class Round:
    """A client of the 2026-07-28 era that answers by hand, on a raw socket."""

    def __init__(self, http: httpx.AsyncClient, key: str) -> None:
        self._http = http
        self._key = key

    async def call(self, note_id: str = "1", **params: Any) -> dict[str, Any]:
        request = modern("tools/call", "note_delete", arguments={"note_id": note_id}, **params)
        meta = request["json"]["params"]["_meta"]
        meta["io.modelcontextprotocol/clientCapabilities"] = {"elicitation": {}}
        request["headers"]["authorization"] = f"Bearer {self._key}"
        return answer(await self._http.post("/mcp", **request))

    async def ask(self) -> str:
        asked = (await self.call())["result"]
        assert asked["resultType"] == "input_required"
        assert asked["inputRequests"]["approval"]["method"] == "elicitation/create"
        return str(asked["requestState"])

    async def confirm(self, state: str, note_id: str = "1") -> dict[str, Any]:
        accept = {"action": "accept", "content": {"approve": True}}
        return await self.call(note_id, requestState=state, inputResponses={"approval": accept})


@asynccontextmanager
async def rounds(fleet: Fleet, key: str | None = None) -> AsyncGenerator[Round]:
    """Yield a hand-made client of a fresh replica."""
    async with (
        serving(create_app(fleet.service, fleet.settings)) as url,
        httpx.AsyncClient(base_url=url) as http,
    ):
        yield Round(http, key or fleet.key)


def code_of(message: dict[str, Any]) -> str:
    """Return the code of a refusal, whichever way the protocol carries it."""
    if "error" in message:
        return str(message["error"]["message"])
    return str(message["result"]["_meta"][ERROR_META]["code"])


INVALID_STATE = "Invalid or expired requestState"


class TestRoundTrips:
    """What a hostile client may try with the state it carries between two rounds."""

    async def test_another_replica_takes_the_answer(self, fleet: Fleet) -> None:
        async with rounds(fleet) as first:
            state = await first.ask()
        async with rounds(fleet) as restarted:
            done = await restarted.confirm(state)
        assert done["result"]["content"][0]["text"] == "deleted 1 at version 1"

    async def test_of_fifty_confirmations_on_two_replicas_one_goes_through(
        self, fleet: Fleet
    ) -> None:
        async with rounds(fleet) as one, rounds(fleet) as two:
            state = await one.ask()
            answers = await asyncio.gather(
                *(replica.confirm(state) for _ in range(25) for replica in (one, two))
            )
        refused = [each for each in answers if each["result"].get("isError")]
        assert len(refused) == 49
        assert {code_of(each) for each in refused} == {"approval_invalid"}
        assert fleet.shelf.deleted == ["1"]

    async def test_a_replayed_state_is_refused(self, fleet: Fleet) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
            await client.confirm(state)
            again = await client.confirm(state)
        assert code_of(again) == "approval_invalid"
        assert "has been used" in again["result"]["content"][0]["text"]

    async def test_a_no_cannot_be_exchanged_for_a_yes(self, fleet: Fleet) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
            decline = {"approval": {"action": "decline"}}
            denied = await client.call(requestState=state, inputResponses=decline)
            assert code_of(denied) == "approval_denied"
            assert code_of(await client.confirm(state)) == "approval_invalid"
        assert fleet.shelf.deleted == []

    async def test_another_caller_cannot_use_it(self, fleet: Fleet) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
        async with rounds(fleet, fleet.other_key) as thief:
            assert code_of(await thief.confirm(state)) == INVALID_STATE

    async def test_other_arguments_cannot_use_it(self, fleet: Fleet) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
            assert code_of(await client.confirm(state, note_id="2")) == INVALID_STATE

    async def test_another_version_of_the_object_cannot_be_changed(self, fleet: Fleet) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
            fleet.shelf.versions["1"] += 1
            refused = await client.confirm(state)
        assert code_of(refused) == "approval_invalid"
        assert "object changed" in refused["result"]["content"][0]["text"]

    @pytest.mark.parametrize(
        "forge", [lambda s: s[:-4] + "AAAA", lambda s: "v1.AAAA", lambda s: ""]
    )
    async def test_a_tampered_state_is_refused(
        self, fleet: Fleet, forge: Callable[[str], str]
    ) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
            assert code_of(await client.confirm(forge(state))) == INVALID_STATE
        assert fleet.shelf.deleted == []

    async def test_a_state_expires(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
            later = time.time() + 301
            monkeypatch.setattr("mcp.server.request_state.time.time", lambda: later)
            assert code_of(await client.confirm(state)) == INVALID_STATE

    async def test_answers_without_a_state_are_a_first_call(self, fleet: Fleet) -> None:
        async with rounds(fleet) as client:
            accept = {"approval": {"action": "accept", "content": {"approve": True}}}
            asked = await client.call(inputResponses=accept)
        assert asked["result"]["resultType"] == "input_required"
        assert fleet.shelf.deleted == []

    async def test_redis_away_is_a_refusal_that_can_be_repeated(self, fleet: Fleet) -> None:
        away = f"redis://127.0.0.1:{free_port()}/0"
        async with fleet.client("auto", yes, redis_url=settings_url(away)) as client:
            told = facts(await delete(client))
        assert (told["code"], told["retryable"]) == ("unavailable", True)
        assert fleet.shelf.deleted == []


def settings_url(url: str) -> Any:
    """Return a URL as settings hold it."""
    return ServiceSettings.model_validate({"redis_url": url}).redis_url


class TestOutOfBand:
    """The handshake era over stateless HTTP, and clients that show no forms."""

    async def test_the_same_call_works_once_after_somebody_approved(self, fleet: Fleet) -> None:
        async with fleet.http("legacy", yes) as client:
            asked = await delete(client)
            told = facts(asked)
            assert (told["code"], told["retryable"]) == ("approval_required", True)
            assert told["approval"]["url"].startswith("https://fleet.example/approve/")
            assert f"fleet approve {told['approval']['id']}" in text(asked)
            await approve(fleet, asked)
            assert text(await delete(client)) == "deleted 1 at version 1"
            assert facts(await delete(client))["code"] == "approval_required"
        assert fleet.shelf.deleted == ["1"]

    async def test_a_client_without_forms_gets_there_too(self, fleet: Fleet) -> None:
        async with fleet.client("auto") as client:
            await approve(fleet, await delete(client))
            assert text(await delete(client)) == "deleted 1 at version 1"

    async def test_an_approval_outlives_the_server(self, fleet: Fleet) -> None:
        async with fleet.client("auto") as client:
            await approve(fleet, await delete(client))
        async with fleet.client("auto") as restarted:
            assert text(await delete(restarted)) == "deleted 1 at version 1"

    async def test_of_fifty_calls_on_two_replicas_one_uses_it(self, fleet: Fleet) -> None:
        async with fleet.client("auto") as one, fleet.client("auto") as two:
            await approve(fleet, await delete(one))
            results = await asyncio.gather(
                *(delete(replica) for _ in range(25) for replica in (one, two))
            )
        assert len([result for result in results if not result.is_error]) == 1
        assert fleet.shelf.deleted == ["1"]

    async def test_it_is_for_this_caller_these_arguments_and_this_version(
        self, fleet: Fleet
    ) -> None:
        colleague = principal("sales", tenant=fleet.caller.tenant, subject="key:other")
        elsewhere = principal("sales", tenant="elsewhere", subject=fleet.caller.subject)
        async with fleet.client("auto") as client:
            await approve(fleet, await delete(client))
            assert facts(await delete(client, "2"))["code"] == "approval_required"
            assert facts(await delete(client, why="x"))["code"] == "approval_required"
        for other in (colleague, elsewhere):
            async with fleet.client("auto", caller=other) as thief:
                assert facts(await delete(thief))["code"] == "approval_required"
        fleet.shelf.versions["1"] += 1
        async with fleet.client("auto") as client:
            assert facts(await delete(client))["code"] == "approval_required"
        assert fleet.shelf.deleted == []

    async def test_a_no_is_told_to_the_call(self, fleet: Fleet) -> None:
        async with fleet.client("auto") as client, fleet.desk() as desk:
            asked = facts(await delete(client))["approval"]["id"]
            request = await desk.find(fleet.caller.tenant, asked)
            assert request is not None
            boss = Approver(fleet.caller.tenant, "key:boss")
            await desk.decide(request, boss, "denied")
            told = facts(await delete(client))
        assert (told["code"], told["retryable"]) == ("approval_denied", False)

    async def test_without_a_url_the_command_is_named(self, fleet: Fleet) -> None:
        async with fleet.client("auto", approve_url=None) as client:
            asked = await delete(client)
        assert facts(asked)["approval"]["url"] is None
        assert "https:" not in text(asked)

    async def test_without_redis_there_is_no_way_and_the_call_is_refused(
        self, fleet: Fleet
    ) -> None:
        async with fleet.client("auto", redis_url=None) as client:
            assert facts(await delete(client))["code"] == "not_configured"
        assert fleet.shelf.deleted == []

    async def test_redis_away_is_a_refusal_that_can_be_repeated(self, fleet: Fleet) -> None:
        away = f"redis://127.0.0.1:{free_port()}/0"
        async with fleet.client("auto", redis_url=settings_url(away)) as client:
            told = facts(await delete(client))
        assert (told["code"], told["retryable"]) == ("unavailable", True)


async def test_the_token_is_an_argument_that_the_tool_itself_never_sees(fleet: Fleet) -> None:
    async with fleet.client("auto", yes) as client:
        (listed,) = [each for each in await client.list_tools() if each.name == "note_delete"]
        assert "confirm_token" in listed.input_schema["properties"]
        assert "confirm_token" not in listed.input_schema["required"]
        assert facts(await delete(client, confirm_token="x"))["code"] == "approval_invalid"


async def test_a_raw_client_is_told_what_the_protocol_says(fleet: Fleet) -> None:
    async with fleet.client("auto", yes) as client:
        first = await client.session.call_tool(
            "note_delete", {"note_id": "1"}, allow_input_required=True
        )
        assert isinstance(first, InputRequiredResult)
        with pytest.raises(MCPError, match=INVALID_STATE):
            await client.session.call_tool(
                "note_delete",
                {"note_id": "1"},
                request_state="nonsense",
                allow_input_required=True,
            )


TWO_STEP = ApprovalRule(tools=("note_*",), confirm="two_step")


def token_of(result: CallToolResult) -> str:
    """Return the token that a refusal names."""
    return str(facts(result)["approval"]["confirmToken"])


class TestTwoSteps:
    """Where the policy says that two calls are enough: proves no person, binds everything else alike."""

    async def test_the_same_call_with_the_token_goes_through_once(self, fleet: Fleet) -> None:
        async with fleet.client(rules=[TWO_STEP]) as client:
            asked = await delete(client)
            token = token_of(asked)
            assert token in text(asked)
            assert facts(asked)["approval"]["plan"] == ["Delete note 1", "Note: 1"]
            assert text(await delete(client, confirm_token=token)) == "deleted 1 at version 1"
            used = facts(await delete(client, confirm_token=token))
        assert (used["code"], "has been used" in used["message"]) == ("approval_invalid", True)
        assert fleet.shelf.deleted == ["1"]

    async def test_of_fifty_confirmations_on_two_replicas_one_goes_through(
        self, fleet: Fleet
    ) -> None:
        async with fleet.client(rules=[TWO_STEP]) as one, fleet.client(rules=[TWO_STEP]) as two:
            token = token_of(await delete(one))
            results = await asyncio.gather(
                *(delete(replica, confirm_token=token) for _ in range(25) for replica in (one, two))
            )
        refused = [facts(result)["code"] for result in results if result.is_error]
        assert refused == ["approval_invalid"] * 49
        assert fleet.shelf.deleted == ["1"]

    async def test_the_token_is_for_this_call_and_this_version(self, fleet: Fleet) -> None:
        colleague = replace(fleet.caller, subject="key:other")
        async with fleet.client(rules=[TWO_STEP]) as client:
            token = token_of(await delete(client))
            for other in ({"note_id": "2"}, {"why": "x"}):
                told = facts(await delete(client, **other, confirm_token=token))
                assert told["code"] == "approval_invalid"
        async with fleet.client(rules=[TWO_STEP], caller=colleague) as thief:
            told = facts(await delete(thief, confirm_token=token))
            assert told["code"] == "approval_invalid"
        fleet.shelf.versions["1"] += 1
        async with fleet.client(rules=[TWO_STEP]) as client:
            told = facts(await delete(client, confirm_token=token))
        assert "object changed" in told["message"]
        assert fleet.shelf.deleted == []

    async def test_who_can_be_asked_is_asked_all_the_same(self, fleet: Fleet) -> None:
        async with fleet.client("auto", no, rules=[TWO_STEP]) as client:
            assert facts(await delete(client))["code"] == "approval_denied"

    async def test_a_rule_for_a_person_takes_no_token(self, fleet: Fleet) -> None:
        async with fleet.client(rules=[TWO_STEP]) as client:
            token = token_of(await delete(client))
        async with fleet.client() as strict:
            told = facts(await delete(strict, confirm_token=token))
        assert told["code"] == "approval_invalid"


class TestSecondPerson:
    """Somebody other than the caller: no question in the caller's own client will do."""

    RULE = ApprovalRule(tools=("note_delete",), confirm="human", second_person=True)

    async def test_the_callers_own_yes_is_not_asked_for(self, fleet: Fleet) -> None:
        async with fleet.client("auto", yes, rules=[self.RULE]) as client:
            asked = await delete(client)
            assert facts(asked)["code"] == "approval_required"
            with pytest.raises(PermissionDenied):
                await approve(fleet, asked, by=fleet.caller.subject)
            await approve(fleet, asked)
            assert text(await delete(client)) == "deleted 1 at version 1"

    async def test_two_steps_do_not_make_two_people(self, fleet: Fleet) -> None:
        both = ApprovalRule(tools=("*",), confirm="two_step", second_person=True)
        async with fleet.client(rules=[both]) as client:
            assert "id" in facts(await delete(client))["approval"]


async def test_a_policy_can_let_a_tool_go_and_hold_back_another(fleet: Fleet) -> None:
    free = ApprovalRule(tools=("note_purge",), confirm="none")
    guarded = ApprovalRule(tools=("fleet_whoami",), confirm="human")
    async with fleet.client("auto", no, rules=[free, guarded]) as client:
        purged = await client.call_tool("note_purge", {"everything": True, "confirm_token": "x"})
        assert text(purged) == "purged"
        held = await client.call_tool("fleet_whoami", raise_on_error=False)
    assert facts(held)["code"] == "approval_denied"


class TestTheRecords:
    """Who decided, and how, stands in the audit log before the change does."""

    async def test_a_yes_is_recorded_before_the_change_begins(self, fleet: Fleet) -> None:
        async with fleet.client("auto", yes) as client:
            await delete(client)
        ask, approve, *change = fleet.decisions()
        assert ask[:2] == ("ask", "input_required")
        assert approve[:2] == ("approve", "ok")
        assert approve[2].startswith("round_trip by key:agent, approval ")
        assert [each[:2] for each in change] == [("allow", "started"), ("allow", "ok")]

    async def test_a_no_is_recorded_and_nothing_begins(self, fleet: Fleet) -> None:
        async with fleet.client("legacy", no) as client:
            await delete(client)
        reject, denied = fleet.decisions()
        assert (reject[0], reject[2].split()[0]) == ("reject", "elicitation")
        assert denied[:2] == ("deny", "approval_denied")

    async def test_out_of_band_the_approver_is_named(self, fleet: Fleet) -> None:
        async with fleet.client() as client:
            asked = await delete(client)
            await approve(fleet, asked)
            await delete(client)
        id_ = facts(asked)["approval"]["id"]
        first, second, *_ = fleet.decisions()
        assert first[:2] == ("ask", "approval_required")
        assert second[2] == f"out_of_band by key:boss, approval {id_}"

    async def test_two_steps_are_recorded_as_that(self, fleet: Fleet) -> None:
        async with fleet.client(rules=[TWO_STEP]) as client:
            token = token_of(await delete(client))
            await delete(client, confirm_token=token)
        assert fleet.decisions()[1][2].startswith("two_step by key:agent")
        assert token.encode() not in b"".join(fleet.audited.lines)
