"""Putting a call into the queue.

FastMCP's own way stores the caller's headers, credentials included. This one stores who the caller is; its keys
are laid out as FastMCP's handlers of `tasks/get`, `tasks/update` and `tasks/cancel` expect them.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import mcp_types
from docket import Docket
from fastmcp.tools import Tool
from fastmcp_tasks.components import coerce_task_arguments
from fastmcp_tasks.context import get_task_scope
from fastmcp_tasks.creation import TASK_MAPPING_TTL_BUFFER_SECONDS
from fastmcp_tasks.input_store import save_current_leg, save_task_args, store_input_responses
from fastmcp_tasks.keys import build_task_key, task_redis_prefix
from fastmcp_tasks.models import CreateTaskResult

from fleet_common.tasks import TaskCaller


@dataclass(frozen=True, slots=True)
class Brought:
    """What the call brings to its task.

    Attributes:
        answers: to what the tool asked before there was a task, by the names of the questions.
        state: what the tool gave the client to carry meanwhile.
    """

    arguments: dict[str, Any]
    answers: mcp_types.InputResponses | None = None
    state: str | None = None


def new_task_id(service: str) -> str:
    """Return an id nobody can guess; it begins with the service's name, by which the gateway routes it."""
    return f"{service}.{secrets.token_urlsafe(32)}"


async def submit(
    docket: Docket, task_id: str, tool: Tool, brought: Brought, caller: TaskCaller
) -> CreateTaskResult:
    """Queue a call of `tool` and return the handle its owner polls; doing it twice queues it once.

    Raises:
        ValidationError: the arguments are not the tool's; nothing was queued.
    """
    coerce_task_arguments(tool, brought.arguments)
    owner = get_task_scope()
    key = build_task_key(owner, task_id, "tool", tool.key)
    created = datetime.now(UTC).isoformat()
    interval_ms = int(tool.task_config.poll_interval.total_seconds() * 1000)
    kept_s = int(docket.execution_ttl.total_seconds())
    ttl_s = kept_s + TASK_MAPPING_TTL_BUFFER_SECONDS
    place = docket.key(f"{task_redis_prefix(owner)}:{task_id}")
    async with docket.redis() as redis:
        for name, value in (
            (place, key),
            (f"{place}:created_at", created),
            (f"{place}:poll_interval", str(interval_ms)),
            (caller_key(docket, owner, task_id), caller.to_json()),
        ):
            await redis.set(name, value, ex=ttl_s)
        if brought.state:
            await redis.set(f"{place}:request_state", brought.state, ex=ttl_s)
    if brought.answers:
        await store_input_responses(docket, owner, task_id, {**brought.answers}, ttl_s)
    await save_task_args(docket, owner, task_id, brought.arguments, ttl_s)
    await save_current_leg(docket, owner, task_id, key, 1, ttl_s)
    # The arguments stay out of the queue's own message: docket would pickle them.
    await docket.add(tool.key, key=key)()
    return CreateTaskResult(
        task_id=task_id,
        status="working",
        created_at=created,
        last_updated_at=created,
        ttl_ms=kept_s * 1000,
        poll_interval_ms=interval_ms,
    )


def caller_key(docket: Docket, owner: str | None, task_id: str) -> str:
    """Return where the caller of a task is stored."""
    return docket.key(f"{task_redis_prefix(owner)}:{task_id}:caller")
