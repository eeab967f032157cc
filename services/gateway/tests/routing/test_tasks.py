"""Tasks through the gateway: polled, cancelled and refused by the service that has them."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp_tasks import call_tool_task

from fleet_common.testing.wire import about_task, answer

CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
TASKS = "io.modelcontextprotocol/tasks"


@pytest.fixture
def services_redis(redis_url: str) -> str:
    return redis_url


def client_of(fleet: Any, key: str | None = None) -> Client[Any]:
    return Client(StreamableHttpTransport(f"{fleet.url}/mcp", auth=key or fleet.key))


async def test_a_task_is_polled_and_answered_by_its_service(fleet: Any) -> None:
    async with client_of(fleet) as client:
        task = await call_tool_task(client, "rag_slow", {})
        assert task.task_id.startswith("aiml.")
        await fleet.events.started.wait()
        assert (await task.status()).status == "working"
        fleet.events.may_end.set()
        assert (await task.result()).data == "done"


async def test_a_task_is_cancelled_through_the_gateway(fleet: Any) -> None:
    async with client_of(fleet) as client:
        task = await call_tool_task(client, "rag_slow", {})
        await fleet.events.started.wait()
        await task.cancel()
        assert (await task.wait()).status == "cancelled"


async def test_somebody_elses_task_and_no_task_look_alike(fleet: Any) -> None:
    async with client_of(fleet) as client, fleet.client() as other:
        task = await call_tool_task(client, "rag_slow", {})
        other.headers["authorization"] = f"Bearer {fleet.sales_key}"
        for task_id in (task.task_id, "aiml.none", "nobody.none", "none"):
            said = answer(await other.post("/mcp", **about_task("tasks/get", task_id)))["error"]
            assert (said["code"], said["message"]) == (-32602, f"Task {task_id} not found")
        fleet.events.may_end.set()
        await task.result()


async def test_a_client_that_does_not_know_tasks_is_told_what_it_lacks(fleet: Any) -> None:
    asked = product(["tasks/get", "tasks/update", "tasks/cancel"], ["aiml.none", "none"])
    async with fleet.client() as client:
        for method, task_id in asked:
            request = about_task(method, task_id)
            request["json"]["params"]["_meta"][CAPABILITIES] = {}
            said = answer(await client.post("/mcp", **request))["error"]
            assert said["code"] == -32021, (method, task_id)
            assert said["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}


@pytest.mark.parametrize("task_id", ["", "\ud800", "aiml.\ud800", 7, None, []])
async def test_a_malformed_id_is_the_callers_mistake(fleet: Any, task_id: Any) -> None:
    request = about_task("tasks/get", "unused")
    del request["headers"]["mcp-name"]
    request["json"]["params"]["taskId"] = task_id
    headers = request["headers"] | {"content-type": "application/json"}
    async with fleet.client() as client:
        response = await client.post("/mcp", content=json.dumps(request["json"]), headers=headers)
    assert response.status_code < 500
    assert answer(response)["error"]["code"] == -32602


async def test_the_gateway_says_that_there_are_tasks(fleet: Any) -> None:
    async with client_of(fleet) as client:
        capabilities = client.session.server_capabilities
    assert capabilities is not None
    assert TASKS in (capabilities.extensions or {})
