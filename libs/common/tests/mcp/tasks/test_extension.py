"""Tasks over HTTP, with the worker in the serving process."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from typing import Any

import httpx
import mcp_types
import pytest
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult
from fastmcp.exceptions import ToolError
from fastmcp_tasks import call_tool_task
from mcp import MCPError
from pydantic import SecretStr

from fleet_cli.engines.freeport import free_port
from fleet_common.auth.keys import KeyFile
from fleet_common.mcp.server import create_server
from fleet_common.redis import Redis
from fleet_common.switches import Switchboard
from fleet_common.testing import admin, wait_until
from fleet_common.testing.collector import collector
from fleet_common.testing.wire import about_task, answer


async def ask(url: str, key: str, method: str, task_id: str) -> dict[str, Any]:
    """Return the error or result of a raw `tasks/*` request."""
    request = about_task(method, task_id)
    headers = {"authorization": f"Bearer {key}"} | request["headers"]
    async with httpx.AsyncClient() as client:
        response = await client.post(f"{url}/mcp", json=request["json"], headers=headers)
    message = answer(response)
    said: dict[str, Any] = message.get("error") or message["result"]
    return said


async def test_a_client_that_knows_tasks_gets_a_task_that_begins_with_the_service(
    fleet: Any, connect: Callable[..., Any]
) -> None:
    async with fleet.serving() as url:
        task = await call_tool_task(await connect(url, await fleet.key()), "job_who", {})
        who = (await task.result()).data
    assert task.task_id.startswith(f"{fleet.name}.")
    assert (who["task"], who["tenant"]) == (task.task_id, "demo")
    assert 3500 < who["seconds"] <= 3600, "a task has its own deadline"


async def test_a_task_is_a_span_below_the_call_that_submitted_it(
    fleet: Any, connect: Callable[..., Any]
) -> None:
    async with collector() as spans, fleet.serving(tracing_endpoint=spans.url) as url:
        task = await call_tool_task(await connect(url, await fleet.key()), "job_who", {})
        await task.result()

        async def is_there() -> bool:
            return any("messaging.system" in span.attributes for span in spans.spans)

        await wait_until(is_there)
    (work,) = [span for span in spans.spans if "messaging.system" in span.attributes]
    (call,) = [span for span in spans.spans if span.span_id == work.parent_id]
    assert work.name == call.name == "tools/call job_who"
    assert work.trace_id == call.trace_id
    assert "http.route" in call.attributes


async def test_an_older_client_gets_the_same_result_inline_with_progress(
    fleet: Any, connect: Callable[..., Any], tmp_path: Any
) -> None:
    seen: list[tuple[float, float | None]] = []

    async def on_progress(progress: float, total: float | None, _message: str | None) -> None:
        seen.append((progress, total))

    arguments = {"path": str(tmp_path / "steps"), "steps": 2}
    async with fleet.serving() as url:
        key = await fleet.key()
        older = await connect(url, key, mode="legacy", progress_handler=on_progress)
        inline = await older.call_tool("job_count", arguments)
        task = await call_tool_task(await connect(url, key), "job_count", arguments)
        assert (await task.result()).data == inline.data == "counted to 2"
    assert seen == [(1, 2), (2, 2)]


async def test_a_poll_shows_how_far_the_work_is(fleet: Any, connect: Callable[..., Any]) -> None:
    async with fleet.serving() as url:
        task = await call_tool_task(await connect(url, await fleet.key()), "job_hold", {})
        await fleet.jobs.held.wait()
        working = await task.status()
        await asyncio.sleep(1.1)  # longer than a call of it may take
        fleet.jobs.release.set()
        assert (working.status, working.status_message) == ("working", "holding")
        assert (await task.result()).data == "held", "the limit of a call is not a task's"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
async def test_only_its_owner_finds_a_task(
    fleet: Any, connect: Callable[..., Any], method: str
) -> None:
    owner, colleague, stranger = [
        await fleet.key(tenant=name) for name in ("demo", "demo", "other")
    ]
    async with fleet.serving() as url:
        task = await call_tool_task(await connect(url, owner), "job_hold", {})
        for key in (colleague, stranger):
            said = await ask(url, key, method, task.task_id)
            assert (said["code"], said["message"]) == (-32602, f"Task {task.task_id} not found")
        assert (await task.status()).status == "working"
        fleet.jobs.release.set()
        await task.result()


async def test_cancelling_ends_the_work(fleet: Any, connect: Callable[..., Any]) -> None:
    async with fleet.serving() as url:
        task = await call_tool_task(await connect(url, await fleet.key()), "job_hold", {})
        await fleet.jobs.held.wait()
        await task.cancel()
        assert (await task.wait()).status == "cancelled"
    assert fleet.jobs.ended == ["cancelled"]


async def test_a_failure_reads_as_it_would_inline(fleet: Any, connect: Callable[..., Any]) -> None:
    async with fleet.serving() as url:
        client = await connect(url, await fleet.key())
        with pytest.raises(ToolError, match=r"^not_found: job 7 not found$"):
            await client.call_tool("job_fail", {})
        with pytest.raises(ToolError, match=r"^internal: ") as crash:
            await client.call_tool("job_crash", {})
    assert "secret" not in str(crash.value)


async def test_wrong_arguments_are_refused_before_anything_is_queued(
    fleet: Any, connect: Callable[..., Any], redis: Redis
) -> None:
    async with fleet.serving() as url:
        client = await connect(url, await fleet.key())
        with pytest.raises(ToolError, match="invalid_input: path"):
            await client.call_tool("job_count", {"steps": 1})
    assert [key async for key in redis.scan_iter(f"fleet-{fleet.name}:*task:auth*")] == []


async def test_a_tool_may_ask_its_client_in_the_middle(
    fleet: Any, connect: Callable[..., Any]
) -> None:
    async def answer(*_: Any) -> ElicitResult[Any]:
        return ElicitResult(action="accept", content={"name": "Ada"})

    async with fleet.serving() as url:
        client = await connect(url, await fleet.key(), elicitation_handler=answer)
        assert (await client.call_tool("job_ask", {})).data == "Hello, Ada"


async def test_what_is_asked_before_there_is_a_task_is_known_to_the_task(
    fleet: Any, connect: Callable[..., Any], redis: Redis
) -> None:
    tasks_at: dict[str, int] = {}

    async def answer(message: str, *_: Any) -> ElicitResult[Any]:
        tasks_at[message] = len([key async for key in redis.scan_iter(f"*{fleet.name}*:caller")])
        name = "Ada" if message == "Who?" else "7"
        return ElicitResult(action="accept", content={"name": name})

    async with fleet.serving() as url:
        client = await connect(url, await fleet.key(), elicitation_handler=answer)
        known = json.loads((await client.call_tool("job_begin", {})).data)
    assert known.pop("task").startswith(f"{fleet.name}.")
    assert known == {"who": "Ada", "size": "7", "rounds": 3}
    assert tasks_at == {"Who?": 0, "How big?": 1}


async def test_a_key_that_was_revoked_meanwhile_runs_nothing(
    fleet: Any, connect: Callable[..., Any], redis: Redis
) -> None:
    async with fleet.serving(tasks_worker=False) as url:
        client = await connect(url, await fleet.key())
        task = await call_tool_task(client, "job_hold", {})
        # The door reads its own copy of the keys, so that the refusal can still be polled.
        revoked = fleet.settings.keys_file.with_name("revoked.json")
        await asyncio.to_thread(shutil.copy, fleet.settings.keys_file, revoked)
        await asyncio.to_thread(lambda: KeyFile(revoked).revoke(KeyFile(revoked).list()[0].id))
        async with fleet.serving(keys_file=revoked):
            with pytest.raises(ToolError, match=r"^unknown_tool"):
                await task.result()
    assert not fleet.jobs.held.is_set()


async def test_no_credential_and_no_header_waits_in_redis(
    fleet: Any, connect: Callable[..., Any], redis: Redis
) -> None:
    async with fleet.serving(tasks_worker=False) as url:
        key = await fleet.key()
        await call_tool_task(await connect(url, key), "job_who", {})
        stored = [await contents(redis, name) async for name in redis.scan_iter(f"*{fleet.name}*")]
    assert any(b"key:" in each for each in stored), "the owner is there"
    for text in (key, key.split("_", 2)[2], "Bearer", "authorization"):
        assert not any(text.encode() in each for each in stored)


async def contents(redis: Redis, name: bytes) -> bytes:
    read: dict[Any, Any] = {
        b"string": redis.get,
        b"hash": redis.hgetall,
        b"stream": redis.xrange,
        b"set": redis.smembers,
        b"zset": lambda key: redis.zrange(key, 0, -1),
    }
    return name + repr(await read[await redis.type(name)](name)).encode()


async def test_while_redis_is_away_a_task_is_refused_and_an_inline_call_is_not(
    fleet: Any, connect: Callable[..., Any]
) -> None:
    async with fleet.serving(redis_url=SecretStr(f"redis://127.0.0.1:{free_port()}/0")) as url:
        key = await fleet.key()
        client = await connect(url, key)
        refused = await client.call_tool("job_who", {}, raise_on_error=False)
        assert refused.meta["fleet/error"]["code"] == "unavailable"
        assert refused.meta["fleet/error"]["retryable"] is True
        polled = await ask(url, key, "tasks/get", f"{fleet.name}.any")
        assert (polled["code"], polled["data"]["retryable"]) == (503, True)
        older = await connect(url, key, mode="legacy")
        assert (await older.call_tool("job_who", {})).data["task"] is None


async def test_a_tool_without_tasks_runs_inline_and_so_does_what_it_calls(
    fleet: Any, connect: Callable[..., Any]
) -> None:
    async with fleet.serving() as url:
        client = await connect(url, await fleet.key())
        assert (await client.call_tool("job_inline", {})).data["task"] is None


async def test_a_tool_that_only_runs_as_a_task_says_what_the_client_lacks(
    fleet: Any, connect: Callable[..., Any]
) -> None:
    async with fleet.serving() as url:
        key = await fleet.key()
        with pytest.raises(MCPError, match="job_only runs as a task only") as refusal:
            await (await connect(url, key, mode="legacy")).call_tool("job_only", {})
        assert refusal.value.error.code == mcp_types.MISSING_REQUIRED_CLIENT_CAPABILITY
        assert (await (await connect(url, key)).call_tool("job_only", {})).data == "a task"


async def test_an_approval_is_asked_for_once_before_the_task_and_holds_for_it(
    fleet: Any, connect: Callable[..., Any]
) -> None:
    asked: list[str] = []

    async def yes(message: str, *_: Any) -> ElicitResult[Any]:
        asked.append(message)
        return ElicitResult(action="accept", content={"approve": True})

    async with fleet.serving() as url:
        client = await connect(url, await fleet.key(), elicitation_handler=yes)
        done = await client.call_tool("job_delete", {"name": "Ada"})
    assert done.data == "deleted Ada at version 7"
    assert len(asked) == 1


async def test_a_tool_that_was_switched_off_meanwhile_does_not_run(
    fleet: Any, connect: Callable[..., Any], redis: Redis
) -> None:
    board = Switchboard(redis)
    async with fleet.serving(tasks_worker=False) as url:
        client = await connect(url, await fleet.key())
        task = await call_tool_task(client, "job_hold", {})
        await board.disable("tool", "job_hold", by="test", reason="a test")
        try:
            async with fleet.serving():
                with pytest.raises(ToolError, match="job_hold has been switched off"):
                    await task.result()
        finally:
            await board.enable("tool", "job_hold", by="test", reason="a test")
    assert not fleet.jobs.held.is_set()


async def test_without_redis_no_tool_offers_tasks(fleet: Any, connect: Callable[..., Any]) -> None:
    async with fleet.serving(redis_url=None) as url:
        client = await connect(url, await fleet.key())
        assert all(tool.execution is None for tool in await client.list_tools())
        assert (await client.call_tool("job_who", {})).data["task"] is None


async def test_a_stopping_worker_finishes_what_it_has(
    fleet: Any, connect: Callable[..., Any]
) -> None:
    async with fleet.serving(tasks_worker=False) as url:
        client = await connect(url, await fleet.key())
        async with fleet.serving(shutdown_grace_s=5):
            task = await call_tool_task(client, "job_hold", {})
            await fleet.jobs.held.wait()
            asyncio.get_running_loop().call_later(0.3, fleet.jobs.release.set)
        assert fleet.jobs.ended == ["finished"]
        assert (await task.result()).data == "held"


async def test_what_a_stopping_worker_cannot_finish_another_one_does(
    fleet: Any, connect: Callable[..., Any]
) -> None:
    async with fleet.serving(tasks_worker=False) as url:
        client = await connect(url, await fleet.key())
        async with fleet.serving():
            task = await call_tool_task(client, "job_hold", {})
            await fleet.jobs.held.wait()
        assert fleet.jobs.ended == ["cancelled"]
        assert (await task.status()).status == "working"
        fleet.jobs.release.set()
        async with fleet.serving():
            assert (await task.result()).data == "held"


async def test_from_sigterm_on_no_task_is_taken(
    fleet: Any, connect: Callable[..., Any], redis: Redis
) -> None:
    async def nobody_works() -> bool:
        return int(await redis.zcard(f"fleet-{fleet.name}:workers")) == 0

    async with fleet.serving(tasks_worker=False) as url:
        client = await connect(url, await fleet.key())
        async with fleet.serving(shutdown_grace_s=5):
            held = await call_tool_task(client, "job_hold", {})
            await fleet.jobs.held.wait()
            fleet.runtime.health.draining = True  # what the signal's handler does first
            await wait_until(nobody_works)
            late = await call_tool_task(client, "job_who", {})
            fleet.jobs.release.set()
            assert (await held.result()).data == "held"
            assert (await late.status()).status == "working"


async def test_a_worker_of_another_version_refuses_what_it_does_not_know(
    fleet: Any, connect: Callable[..., Any]
) -> None:
    async with fleet.serving(tasks_worker=False) as url:
        client = await connect(url, await fleet.key())
        task = await call_tool_task(client, "job_who", {})
        async with fleet.serving(without="job_who"):
            with pytest.raises(ToolError, match=r"^unavailable: a worker that has this tool"):
                await task.result()


@pytest.mark.parametrize(
    "task_id", ["", "x" * 1000, "\ud800", "a:caller", "*", "\0", 7, None, [], {}]
)
async def test_a_malformed_id_is_the_callers_mistake(fleet: Any, task_id: Any) -> None:
    key = await fleet.key()
    async with fleet.serving() as url, httpx.AsyncClient(base_url=url) as client:
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            request = about_task(method, "unused")
            del request["headers"]["mcp-name"]
            request["json"]["params"]["taskId"] = task_id
            response = await client.post(
                "/mcp",
                content=json.dumps(request["json"]),
                headers=request["headers"]
                | {"authorization": f"Bearer {key}", "content-type": "application/json"},
            )
            assert response.status_code < 500
            assert answer(response)["error"]["code"] == -32602


async def test_on_stdio_every_tool_runs_inline(fleet: Any) -> None:
    server = create_server(
        fleet.service, fleet.settings, local_principal=admin(), offers_tasks=False
    )
    async with Client(server) as client:
        assert all(tool.execution is None for tool in await client.list_tools())
        assert (await client.call_tool("job_who", {})).data["task"] is None


async def test_a_task_that_ends_its_worker_each_time_is_given_up(
    fleet: Any, connect: Callable[..., Any], redis: Redis
) -> None:
    async with fleet.serving(tasks_worker=False) as url:
        client = await connect(url, await fleet.key())
        task = await call_tool_task(client, "job_who", {})
        (caller,) = [key async for key in redis.scan_iter(f"fleet-{fleet.name}:*:caller")]
        await redis.rpush(caller + b":attempts", *range(10))
        async with fleet.serving():
            with pytest.raises(ToolError, match="given up after 10 attempts"):
                await task.result()


async def test_the_metrics_show_how_deep_the_queue_is(
    fleet: Any, connect: Callable[..., Any]
) -> None:
    key = await fleet.key()
    async with fleet.serving(tasks_worker=False) as url, httpx.AsyncClient() as http:
        await call_tool_task(await connect(url, key), "job_who", {})
        text = (await http.get(f"{url}/metrics")).text
    labels = f'{{queue="{fleet.name}",service="{fleet.name}"}}'
    assert f"mcp_tasks_pending{labels} 1.0" in text
    assert f"mcp_tasks_oldest_seconds{labels}" in text
