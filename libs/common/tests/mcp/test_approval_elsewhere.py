"""Approved elsewhere, in two steps or by a second person, and what stands in the audit log after it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastmcp.client.client import CallToolResult
from fastmcp.client.transports import StreamableHttpTransport
from pydantic import SecretStr

from fleet_cli.engines.freeport import free_port
from fleet_common.approvals import Approver
from fleet_common.errors import PermissionDenied
from fleet_common.policy import ApprovalRule
from fleet_common.testing import principal
from fleet_common.testing.approvals import Replicas, approve, delete, facts, no, replicas, yes
from fleet_common.testing.wire import text


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Replicas:
    return replicas(redis_url, tmp_path)


class TestOutOfBand:
    """The handshake era over stateless HTTP, and clients that show no forms."""

    async def test_the_same_call_works_once_after_somebody_approved(self, fleet: Replicas) -> None:
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

    async def test_a_client_without_forms_gets_there_too(self, fleet: Replicas) -> None:
        async with fleet.client("auto") as client:
            await approve(fleet, await delete(client))
            assert text(await delete(client)) == "deleted 1 at version 1"

    async def test_an_approval_outlives_the_server(self, fleet: Replicas) -> None:
        async with fleet.client("auto") as client:
            await approve(fleet, await delete(client))
        async with fleet.client("auto") as restarted:
            assert text(await delete(restarted)) == "deleted 1 at version 1"

    async def test_of_fifty_calls_on_two_replicas_one_uses_it(self, fleet: Replicas) -> None:
        async with fleet.client("auto") as one, fleet.client("auto") as two:
            await approve(fleet, await delete(one))
            results = await asyncio.gather(
                *(delete(replica) for _ in range(25) for replica in (one, two))
            )
        assert len([result for result in results if not result.is_error]) == 1
        assert fleet.shelf.deleted == ["1"]

    async def test_it_is_for_this_caller_these_arguments_and_this_version(
        self, fleet: Replicas
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

    async def test_a_no_is_told_to_the_call(self, fleet: Replicas) -> None:
        async with fleet.client("auto") as client, fleet.desk() as desk:
            asked = facts(await delete(client))["approval"]["id"]
            request = await desk.find(fleet.caller.tenant, asked)
            assert request is not None
            boss = Approver(fleet.caller.tenant, "key:boss")
            await desk.decide(request, boss, "denied")
            told = facts(await delete(client))
        assert (told["code"], told["retryable"]) == ("approval_denied", False)

    async def test_questions_and_decisions_are_counted(self, fleet: Replicas) -> None:
        async with fleet.http("legacy") as client, httpx.AsyncClient() as http:
            await approve(fleet, await delete(client))
            await delete(client)
            assert isinstance(client.transport, StreamableHttpTransport)
            shown = (await http.get(client.transport.url.replace("/mcp", "/metrics"))).text
        for decision, times in (("asked", 1), ("approve", 1), ("reject", 0)):
            series = f'mcp_approvals_total{{decision="{decision}",service="data"}}'
            assert f"{series} {times}.0" in shown

    async def test_without_a_url_the_command_is_named(self, fleet: Replicas) -> None:
        async with fleet.client("auto", approve_url=None) as client:
            asked = await delete(client)
        assert facts(asked)["approval"]["url"] is None
        assert "https:" not in text(asked)

    async def test_without_redis_there_is_no_way_and_the_call_is_refused(
        self, fleet: Replicas
    ) -> None:
        async with fleet.client("auto", redis_url=None) as client:
            assert facts(await delete(client))["code"] == "not_configured"
        assert fleet.shelf.deleted == []

    async def test_redis_away_is_a_refusal_that_can_be_repeated(self, fleet: Replicas) -> None:
        away = f"redis://127.0.0.1:{free_port()}/0"
        async with fleet.client("auto", redis_url=SecretStr(away)) as client:
            told = facts(await delete(client))
        assert (told["code"], told["retryable"]) == ("unavailable", True)


TWO_STEP = ApprovalRule(tools=("note_*",), confirm="two_step")


def token_of(result: CallToolResult) -> str:
    """Return the token that a refusal names."""
    return str(facts(result)["approval"]["confirmToken"])


class TestTwoSteps:
    """Where the policy says that two calls are enough: proves no person, binds everything else alike."""

    async def test_the_same_call_with_the_token_goes_through_once(self, fleet: Replicas) -> None:
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
        self, fleet: Replicas
    ) -> None:
        async with fleet.client(rules=[TWO_STEP]) as one, fleet.client(rules=[TWO_STEP]) as two:
            token = token_of(await delete(one))
            results = await asyncio.gather(
                *(delete(replica, confirm_token=token) for _ in range(25) for replica in (one, two))
            )
        refused = [facts(result)["code"] for result in results if result.is_error]
        assert refused == ["approval_invalid"] * 49
        assert fleet.shelf.deleted == ["1"]

    async def test_the_token_is_for_this_call_and_this_version(self, fleet: Replicas) -> None:
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

    async def test_who_can_be_asked_is_asked_all_the_same(self, fleet: Replicas) -> None:
        async with fleet.client("auto", no, rules=[TWO_STEP]) as client:
            assert facts(await delete(client))["code"] == "approval_denied"

    async def test_a_rule_for_a_person_takes_no_token(self, fleet: Replicas) -> None:
        async with fleet.client(rules=[TWO_STEP]) as client:
            token = token_of(await delete(client))
        async with fleet.client() as strict:
            told = facts(await delete(strict, confirm_token=token))
        assert told["code"] == "approval_invalid"


class TestSecondPerson:
    """Somebody other than the caller: no question in the caller's own client will do."""

    RULE = ApprovalRule(tools=("note_delete",), confirm="human", second_person=True)

    async def test_the_callers_own_yes_is_not_asked_for(self, fleet: Replicas) -> None:
        async with fleet.client("auto", yes, rules=[self.RULE]) as client:
            asked = await delete(client)
            assert facts(asked)["code"] == "approval_required"
            with pytest.raises(PermissionDenied):
                await approve(fleet, asked, by=fleet.caller.subject)
            await approve(fleet, asked)
            assert text(await delete(client)) == "deleted 1 at version 1"

    async def test_two_steps_do_not_make_two_people(self, fleet: Replicas) -> None:
        both = ApprovalRule(tools=("*",), confirm="two_step", second_person=True)
        async with fleet.client(rules=[both]) as client:
            assert "id" in facts(await delete(client))["approval"]


class TestTheRecords:
    """Who decided, and how, stands in the audit log before the change does."""

    async def test_a_yes_is_recorded_before_the_change_begins(self, fleet: Replicas) -> None:
        async with fleet.client("auto", yes) as client:
            await delete(client)
        ask, approve, *change = fleet.decisions()
        assert ask[:2] == ("ask", "input_required")
        assert approve[:2] == ("approve", "ok")
        assert approve[2].startswith("round_trip by key:agent, approval ")
        assert [each[:2] for each in change] == [("allow", "started"), ("allow", "ok")]

    async def test_the_version_that_was_approved_is_recorded(self, fleet: Replicas) -> None:
        async with fleet.client("auto", yes) as client:
            await delete(client)
        allowed = [each for each in fleet.audited.events if each["decision"] == "allow"]
        assert [each["versions"] for each in allowed] == [{"approved": "1"}] * 2

    async def test_a_no_is_recorded_and_nothing_begins(self, fleet: Replicas) -> None:
        async with fleet.client("legacy", no) as client:
            await delete(client)
        reject, denied = fleet.decisions()
        assert (reject[0], reject[2].split()[0]) == ("reject", "elicitation")
        assert denied[:2] == ("deny", "approval_denied")

    async def test_out_of_band_the_approver_is_named(self, fleet: Replicas) -> None:
        async with fleet.client() as client:
            asked = await delete(client)
            await approve(fleet, asked)
            await delete(client)
        id_ = facts(asked)["approval"]["id"]
        first, second, *_ = fleet.decisions()
        assert first[:2] == ("ask", "approval_required")
        assert second[2] == f"out_of_band by key:boss, approval {id_}"

    async def test_two_steps_are_recorded_as_that(self, fleet: Replicas) -> None:
        async with fleet.client(rules=[TWO_STEP]) as client:
            token = token_of(await delete(client))
            await delete(client, confirm_token=token)
        assert fleet.decisions()[1][2].startswith("two_step by key:agent")
        assert token.encode() not in b"".join(fleet.audited.lines)
