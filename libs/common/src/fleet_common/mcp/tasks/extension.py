"""The tasks extension as the fleet offers it: FastMCP's wire and handlers, our door, queue and worker.

What differs from FastMCP's own: a task belongs to subject and tenant, no credential is stored, and a worker runs
a task through the server's whole middleware, so that policy, switches, deadline and audit are those of any call.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import mcp_types
import structlog
from fastmcp import Context
from fastmcp.server.dependencies import _is_client_tool_call, is_docket_available
from fastmcp.server.extensions import ToolCallContinuation, ToolCallOutcome
from fastmcp.tools import Tool
from fastmcp_tasks import TasksExtension
from fastmcp_tasks.context import make_task_context
from fastmcp_tasks.extension import _install_worker_hooks, _release_worker_hooks
from fastmcp_tasks.models import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CancelTaskResult,
    GetTaskResult,
    UpdateTaskResult,
    missing_capability_error_data,
)
from mcp import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from redis.exceptions import ConnectionError as ConnectionFailed

from fleet_common.auth import Principal
from fleet_common.errors import Unauthenticated, Unavailable
from fleet_common.logs import current_traceparent, request_facts
from fleet_common.mcp.approval import approved_plan
from fleet_common.mcp.declared import asks_first
from fleet_common.mcp.identity import acting_as_token, caller
from fleet_common.mcp.runtime import Runtime
from fleet_common.mcp.tasks.submission import Brought, new_task_id, submit
from fleet_common.mcp.tasks.worker import TaskWorker
from fleet_common.redis import REDIS_AWAY
from fleet_common.settings import ServiceSettings
from fleet_common.tasks import TaskCaller, running_task

log = structlog.get_logger()

_REDIS_S = 5.0  # several round trips, each of which a dead network could keep for ever
_RESTART_S = 2.0  # what a Redis that restarts may take before callers hear of it
_ID = re.compile(r"[A-Za-z0-9._-]{1,256}")  # wider than what we make; it goes into keys of Redis
_AWAY = "the task queue"

T = TypeVar("T")


class FleetTasks(TasksExtension):
    """Offers the `task=` tools of one server as tasks on one Redis queue.

    Args:
        runtime: whose service names the queue, and begins every task id.
        url: the Redis that all replicas and workers share.
        settings: how much is worked at once, for how long, and whether in this process at all.
        local: the caller when there is no HTTP request.
    """

    def __init__(
        self, runtime: Runtime, url: str, settings: ServiceSettings, local: Principal | None
    ) -> None:
        super().__init__(url=url)
        is_docket_available()  # FastMCP looks on the disk and remembers: not in the first task's event loop
        self._service = runtime.service
        self._local = local
        self._worker = TaskWorker(runtime, url, settings)
        self._tools: Mapping[str, Tool] = {}

    async def intercept_tool_call(
        self,
        params: mcp_types.CallToolRequestParams,
        context: Context,
        call_next: ToolCallContinuation,
    ) -> ToolCallOutcome:
        """Run the call, or queue it when the tool and the client both know tasks."""
        tool = self._tools.get(params.name)
        if tool is None:
            return await call_next()
        if running_task() is not None:
            return await _run_as_task(tool, params.arguments or {})
        if not _is_client_tool_call():
            return await call_next()  # called by another tool: the client's offer is not about it
        if not self._client_knows_tasks(context):
            if tool.task_config.mode == "required":
                raise MCPError(
                    MISSING_REQUIRED_CLIENT_CAPABILITY,
                    f"{tool.name} runs as a task only, and the client did not declare {self.identifier}",
                    missing_capability_error_data(),
                )
            return await call_next()
        if asks_first(tool) and not context.input_responses:
            # Its question: the call that brings the answers becomes the task.
            return await call_next()
        return await self._submit(tool, _brought(params.arguments or {}, context))

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Open the queue and, unless the settings leave that to others, work on it."""
        # Private, but the one part of FastMCP's own lifespan that must be as it is: it makes progress,
        # `Context` and the result type of a task work. The rest of it cannot drain, nor serve without working.
        _install_worker_hooks()
        try:
            known = await self.server.get_tasks()
            self._tools = {tool.name: tool for tool in known if isinstance(tool, Tool)}
            async with self._worker.opened(self.server, self._tools.values()):
                yield
        finally:
            _release_worker_hooks()

    def _client_knows_tasks(self, context: Context) -> bool:
        request = context.request_context
        return (
            request is not None
            and request.protocol_version in MODERN_PROTOCOL_VERSIONS
            and context.client_extension_settings(self.identifier) is not None
        )

    async def _submit(self, tool: Tool, brought: Brought) -> ToolCallOutcome:
        principal = self._require_caller()
        stored = TaskCaller(
            principal,
            time.time(),
            request_facts().get("request_id"),
            current_traceparent(),
            approved_plan(),
        )
        task_id = new_task_id(self._service)
        try:
            with acting_as_token(principal):
                created = await _patiently(
                    lambda: submit(self._worker.docket, task_id, tool, brought, stored)
                )
        except REDIS_AWAY as exc:
            raise Unavailable(_AWAY) from exc
        log.info("task_created", tool=tool.name, task=created.task_id)
        return created

    async def _handle_get(self, ctx: Any, params: Any) -> GetTaskResult:
        handle = super()._handle_get
        return await self._as_owner(params, lambda: handle(ctx, params))

    async def _handle_update(self, ctx: Any, params: Any) -> UpdateTaskResult:
        handle = super()._handle_update
        return await self._as_owner(params, lambda: handle(ctx, params))

    async def _handle_cancel(self, ctx: Any, params: Any) -> CancelTaskResult:
        handle = super()._handle_cancel
        done = await self._as_owner(params, lambda: handle(ctx, params))
        log.info("task_cancelled", task=params.task_id)
        return done

    async def _as_owner(self, params: Any, handle: Callable[[], Awaitable[T]]) -> T:
        """Answer a `tasks/*` request; tasks of others are looked for under this caller's name, and not found."""
        if not _ID.fullmatch(params.task_id):
            raise MCPError(mcp_types.INVALID_PARAMS, "Task not found")
        try:
            with acting_as_token(self._require_caller()):
                return await _patiently(handle)
        except REDIS_AWAY as exc:
            away = Unavailable(_AWAY)
            raise MCPError(away.jsonrpc_code, str(away), away.to_dict()) from exc

    def _require_caller(self) -> Principal:
        principal = caller(self._local)
        if principal is None:
            raise Unauthenticated("a task needs a verified caller")
        return principal


def _brought(arguments: dict[str, Any], context: Context) -> Brought:
    if approved_plan() is not None:
        return Brought(arguments)  # what came besides answered the question of the approval
    return Brought(arguments, context.input_responses, context.request_state)


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask, and while the connection fails ask again: after a restart of Redis every pooled connection is dead.

    Everything that is asked here may be repeated: a task's id is made once, and its queue takes an id once.
    """
    ends_at = time.monotonic() + _RESTART_S
    async with asyncio.timeout(_REDIS_S):
        while True:
            try:
                return await ask()
            except ConnectionFailed:
                if time.monotonic() > ends_at:
                    raise
                await asyncio.sleep(_RESTART_S / 20)


async def _run_as_task(tool: Tool, arguments: dict[str, Any]) -> ToolCallOutcome:
    """Run the tool itself, in the context that stores progress; the task's deadline replaces the tool's."""
    context = await make_task_context()
    if context is None:
        raise RuntimeError("a running task has a context")
    # Tools get this very context; what they report is worth less than what they do.
    context.report_progress = _never_failing(context.report_progress)  # type: ignore[assignment,method-assign]
    try:
        return await tool.model_copy(update={"timeout": None}).run(arguments)
    finally:
        await context.__aexit__(None, None, None)


def _never_failing(report: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def reported(*progress: Any, **more: Any) -> None:
        try:
            async with asyncio.timeout(_REDIS_S):
                await report(*progress, **more)
        except REDIS_AWAY as exc:
            log.info("progress_not_stored", error=type(exc).__name__)

    return reported
