"""A person is asked in the client: FastMCP's client in both eras."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest
from fastmcp.client.elicitation import ElicitResult
from mcp import MCPError
from mcp_types import InputRequiredResult

from fleet_common.policy import ApprovalRule
from fleet_common.testing.approvals import Era, Replicas, delete, facts, no, replicas, yes
from fleet_common.testing.wire import text


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Replicas:
    return replicas(redis_url, tmp_path)


class TestTheClientAsks:
    """2026-07-28 by multi round trip, the handshake era by elicitation over a two-way connection."""

    @pytest.fixture(params=["auto", "legacy"])
    def era(self, request: pytest.FixtureRequest) -> Era:
        return "auto" if request.param == "auto" else "legacy"

    async def test_a_yes_lets_the_call_through_with_its_plan(
        self, fleet: Replicas, era: Era
    ) -> None:
        async with fleet.client(era, yes) as client:
            assert text(await delete(client)) == "deleted 1 at version 1"
        assert fleet.shelf.deleted == ["1"]

    async def test_the_question_is_the_servers_and_not_the_models(
        self, fleet: Replicas, era: Era
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
        self, fleet: Replicas, era: Era, action: Literal["decline", "cancel", "accept"]
    ) -> None:
        async def says(*_: Any) -> ElicitResult[Any]:
            content = {"approve": False} if action == "accept" else None
            return ElicitResult(action=action, content=content)

        async with fleet.client(era, says) as client:
            assert facts(await delete(client))["code"] == "approval_denied"
        assert fleet.shelf.deleted == []

    async def test_each_call_is_asked_for_anew(self, fleet: Replicas, era: Era) -> None:
        answers = iter([yes, no])

        async def says(*_: Any) -> ElicitResult[Any]:
            return await next(answers)("")

        async with fleet.client(era, says) as client:
            await delete(client)
            assert facts(await delete(client))["code"] == "approval_denied"
        assert fleet.shelf.deleted == ["1"]

    async def test_a_call_that_changes_nothing_is_not_asked_for(
        self, fleet: Replicas, era: Era
    ) -> None:
        async with fleet.client(era, no) as client:
            assert text(await delete(client, "nothing")) == "deleted nothing at version None"

    async def test_what_cannot_be_done_is_not_asked_for(self, fleet: Replicas, era: Era) -> None:
        async with fleet.client(era, yes) as client:
            assert facts(await delete(client, "9"))["code"] == "not_found"
            wrong = await client.call_tool("note_delete", {}, raise_on_error=False)
            assert facts(wrong)["message"] == "note_id: Field required"

    async def test_a_destructive_tool_without_a_planner_shows_its_arguments(
        self, fleet: Replicas, era: Era
    ) -> None:
        asked = []

        async def listen(message: str, *_: Any) -> ElicitResult[Any]:
            asked.append(message)
            return await no()

        async with fleet.client(era, listen) as client:
            await client.call_tool("note_purge", {"everything": True}, raise_on_error=False)
        assert asked[0].splitlines()[:2] == ["Run 'note_purge'", "everything: true"]
        assert fleet.shelf.deleted == []

    async def test_a_process_without_redis_can_still_ask(self, fleet: Replicas, era: Era) -> None:
        async with fleet.client(era, yes, redis_url=None) as client:
            assert text(await delete(client)) == "deleted 1 at version 1"


async def test_a_client_that_cannot_show_the_question_has_said_no(fleet: Replicas) -> None:
    async def broken(*_: Any) -> ElicitResult[Any]:
        raise RuntimeError("no window to show it in")

    async with fleet.client("legacy", broken) as client:
        told = facts(await delete(client))
    assert (told["code"], "did not show" in told["message"]) == ("approval_denied", True)
    assert fleet.shelf.deleted == []


async def test_a_question_that_nobody_answers_ends(
    fleet: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = asyncio.Event()

    async def away(*_: Any) -> ElicitResult[Any]:
        await answered.wait()
        return await yes()

    monkeypatch.setattr("fleet_common.mcp.approval._LIFE_S", 0.05)
    async with fleet.client("legacy", away) as client:
        told = facts(await delete(client))
        answered.set()
    assert (told["code"], told["retryable"]) == ("deadline_exceeded", True)
    assert fleet.shelf.deleted == []


async def test_the_token_is_an_argument_that_the_tool_itself_never_sees(fleet: Replicas) -> None:
    async with fleet.client("auto", yes) as client:
        (listed,) = [each for each in await client.list_tools() if each.name == "note_delete"]
        assert "confirm_token" in listed.input_schema["properties"]
        assert "confirm_token" not in listed.input_schema["required"]
        assert facts(await delete(client, confirm_token="x"))["code"] == "approval_invalid"


async def test_a_raw_client_is_told_what_the_protocol_says(fleet: Replicas) -> None:
    async with fleet.client("auto", yes) as client:
        first = await client.session.call_tool(
            "note_delete", {"note_id": "1"}, allow_input_required=True
        )
        assert isinstance(first, InputRequiredResult)
        with pytest.raises(MCPError, match="Invalid or expired requestState"):
            await client.session.call_tool(
                "note_delete",
                {"note_id": "1"},
                request_state="nonsense",
                allow_input_required=True,
            )


async def test_a_policy_can_let_a_tool_go_and_hold_back_another(fleet: Replicas) -> None:
    free = ApprovalRule(tools=("note_purge",), confirm="none")
    guarded = ApprovalRule(tools=("fleet_whoami",), confirm="human")
    async with fleet.client("auto", no, rules=[free, guarded]) as client:
        purged = await client.call_tool("note_purge", {"everything": True, "confirm_token": "x"})
        assert text(purged) == "purged"
        held = await client.call_tool("fleet_whoami", raise_on_error=False)
    assert facts(held)["code"] == "approval_denied"
