"""What a hostile client may try between the two rounds of a call, on raw sockets and a real Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from fleet_cli.engines.freeport import free_port
from fleet_common.mcp.app import create_app
from fleet_common.mcp.middleware import ERROR_META
from fleet_common.testing import serving
from fleet_common.testing.approvals import Replicas, delete, facts, replicas, yes
from fleet_common.testing.wire import answer, modern


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Replicas:
    return replicas(redis_url, tmp_path)


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
async def rounds(fleet: Replicas, key: str | None = None) -> AsyncGenerator[Round]:
    """Yield a hand-made client of a fresh replica; on a busy machine more at once outlast Redis' one second."""
    eight = httpx.Limits(max_connections=8)
    async with (
        serving(create_app(fleet.service, fleet.settings)) as url,
        httpx.AsyncClient(base_url=url, limits=eight, timeout=30) as http,
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

    async def test_another_replica_takes_the_answer(self, fleet: Replicas) -> None:
        async with rounds(fleet) as first:
            state = await first.ask()
        async with rounds(fleet) as restarted:
            done = await restarted.confirm(state)
        assert done["result"]["content"][0]["text"] == "deleted 1 at version 1"

    async def test_of_fifty_confirmations_on_two_replicas_one_goes_through(
        self, fleet: Replicas
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

    async def test_a_replayed_state_is_refused(self, fleet: Replicas) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
            await client.confirm(state)
            again = await client.confirm(state)
        assert code_of(again) == "approval_invalid"
        assert "has been used" in again["result"]["content"][0]["text"]

    async def test_a_no_cannot_be_exchanged_for_a_yes(self, fleet: Replicas) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
            decline = {"approval": {"action": "decline"}}
            denied = await client.call(requestState=state, inputResponses=decline)
            assert code_of(denied) == "approval_denied"
            assert code_of(await client.confirm(state)) == "approval_invalid"
        assert fleet.shelf.deleted == []

    async def test_another_caller_cannot_use_it(self, fleet: Replicas) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
        async with rounds(fleet, fleet.other_key) as thief:
            assert code_of(await thief.confirm(state)) == INVALID_STATE

    async def test_other_arguments_cannot_use_it(self, fleet: Replicas) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
            assert code_of(await client.confirm(state, note_id="2")) == INVALID_STATE

    async def test_another_version_of_the_object_cannot_be_changed(self, fleet: Replicas) -> None:
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
        self, fleet: Replicas, forge: Callable[[str], str]
    ) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
            assert code_of(await client.confirm(forge(state))) == INVALID_STATE
        assert fleet.shelf.deleted == []

    async def test_a_state_expires(self, fleet: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
        async with rounds(fleet) as client:
            state = await client.ask()
            later = time.time() + 301
            monkeypatch.setattr("mcp.server.request_state.time.time", lambda: later)
            assert code_of(await client.confirm(state)) == INVALID_STATE

    async def test_answers_without_a_state_are_a_first_call(self, fleet: Replicas) -> None:
        async with rounds(fleet) as client:
            accept = {"approval": {"action": "accept", "content": {"approve": True}}}
            asked = await client.call(inputResponses=accept)
        assert asked["result"]["resultType"] == "input_required"
        assert fleet.shelf.deleted == []

    async def test_redis_away_is_a_refusal_that_can_be_repeated(self, fleet: Replicas) -> None:
        away = f"redis://127.0.0.1:{free_port()}/0"
        async with fleet.client("auto", yes, redis_url=SecretStr(away)) as client:
            told = facts(await delete(client))
        assert (told["code"], told["retryable"]) == ("unavailable", True)
        assert fleet.shelf.deleted == []
