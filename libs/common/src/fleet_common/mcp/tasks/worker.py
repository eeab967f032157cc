"""A worker: takes tasks from the queue and runs each as a call by the one who asked for it.

A task is taken for `tasks_redelivery_s` at a time and renewed while it runs. When a worker dies, the next one
takes its tasks after that time and runs them again from the start: tools that may run as tasks must be idempotent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Self

import anyio.to_thread
import structlog
from docket import Docket, Execution, Retry, Worker
from docket.dependencies import TaskOutcome, current_execution
from fastmcp import FastMCP
from fastmcp.tools import Tool, ToolResult
from fastmcp_tasks.context import register_task_server
from fastmcp_tasks.dependencies import _current_docket
from fastmcp_tasks.input_loop import reentrant_task_fn
from fastmcp_tasks.input_store import load_task_args
from fastmcp_tasks.keys import parse_task_key

from fleet_common.auth.keys import KeyFile
from fleet_common.errors import FleetError, InternalError, NotFound, Unavailable
from fleet_common.logs import request_context
from fleet_common.mcp.identity import acting_as_token
from fleet_common.mcp.middleware import error_result
from fleet_common.mcp.runtime import Runtime
from fleet_common.mcp.tasks.submission import caller_key
from fleet_common.redis import REDIS_AWAY
from fleet_common.settings import ServiceSettings
from fleet_common.tasks import RunningTask, TaskCaller, queue_name
from fleet_common.tasks.caller import still_allowed
from fleet_common.tasks.running import running
from fleet_common.tracing import TraceContext

log = structlog.get_logger()

_KEPT = timedelta(days=1)  # results, and tasks that nobody has started
_IDLE = timedelta(seconds=1)  # how long one read waits; new work ends the wait at once
_SPAN = {"messaging.system": "redis", "messaging.operation.type": "process"}
_DRAIN_POLL_S = 0.1
_ATTEMPTS = 10  # a task that ends its worker each time must not go round for ever
# docket logs each task with a rendering of the call, and a traceback every second while Redis is away. Both are
# known: the audit says who ran what, and readiness what is degraded.
logging.getLogger("docket").setLevel(logging.ERROR)


class TaskWorker:
    """One connection to a service's queue, and what runs its tasks."""

    def __init__(self, runtime: Runtime, url: str, settings: ServiceSettings) -> None:
        self.docket = Docket(queue_name(runtime.service), url, execution_ttl=_KEPT)
        self._settings = settings
        self._keys = KeyFile(settings.keys_file) if settings.keys_file else None
        self._oauth = runtime.oauth
        self._health = runtime.health
        self._tracing = runtime.tracing

    @asynccontextmanager
    async def opened(self, server: FastMCP[Any], tools: Iterable[Tool]) -> AsyncGenerator[None]:
        """Connect while the block runs, and work unless `tasks_worker` is off."""
        async with self.docket:
            # Where FastMCP's handlers look; Redis may be away, the connection is made when it is used.
            # Its type is None: only extensions ever set it.
            server._docket = self.docket  # type: ignore[assignment]  # noqa: SLF001
            for tool in tools:
                self.docket.register(self._function(server, tool), names=[tool.key])
            reset = _current_docket.set(self.docket)
            try:
                if self._settings.tasks_worker:
                    async with self._working():
                        yield
                else:
                    yield
            finally:
                _current_docket.reset(reset)
                server._docket = None  # noqa: SLF001

    @asynccontextmanager
    async def _working(self) -> AsyncGenerator[None]:
        worker = Worker(
            self.docket,
            # A name of its own for each life: what an earlier process of this pid left must be redelivered.
            name=f"{socket.gethostname()}#{os.getpid()}#{secrets.token_hex(4)}",
            concurrency=self._settings.tasks_concurrency,
            redelivery_timeout=timedelta(seconds=self._settings.tasks_redelivery_s),
            reconnection_delay=_IDLE,
            minimum_check_interval=_IDLE,
            scheduling_resolution=_IDLE,
            schedule_automatic_tasks=False,
            fallback_task=_run_unknown,
            dependencies=[_AgainWhenRedisWasAway()],
        )
        async with worker:
            work = asyncio.create_task(_run_until_stopped(worker), name="task-worker")
            closing = asyncio.Event()
            drain = asyncio.create_task(self._drain(work, closing), name="task-drain")
            try:
                yield
            finally:
                closing.set()
                await drain

    async def _drain(self, work: asyncio.Task[None], closing: asyncio.Event) -> None:
        """From SIGTERM on take no more tasks, and let the running ones finish beside the calls in flight.

        What is not done in time is left to other workers.
        """
        while not (self._health.draining or closing.is_set()):  # noqa: ASYNC110 - set by a signal handler
            await asyncio.sleep(_DRAIN_POLL_S)
        work.cancel()
        await asyncio.wait({work}, timeout=self._settings.shutdown_grace_s)
        if not work.done():
            log.info("tasks_handed_back")
            work.cancel()
        with suppress(asyncio.CancelledError):
            await work

    def _function(self, server: FastMCP[Any], tool: Tool) -> Callable[..., Awaitable[Any]]:
        async def run(**_arguments: Any) -> ToolResult:
            try:
                return await self._run(server, tool)
            except FleetError as exc:
                log.warning("task_not_run", tool=tool.name, error=exc.code)
                return error_result(exc)

        # It ends a leg when the tool asks for input, and the next leg begins with the answer.
        return reentrant_task_fn(run, tool.name)

    async def _run(self, server: FastMCP[Any], tool: Tool) -> ToolResult:
        """Run the current task through the server's middleware, as its owner."""
        parts = parse_task_key(current_execution.get().key)
        owner, task_id = parts["task_scope"], parts["client_task_id"]
        stored, arguments = await self._load(owner, task_id)
        principal = await anyio.to_thread.run_sync(still_allowed, stored, self._keys, self._oauth)
        register_task_server(task_id, server)  # where the tool's Context and dependencies come from
        task = RunningTask(task_id, self._settings.tasks_timeout_s, stored.plan)
        submitted = TraceContext.of(stored.traceparent, None)
        with (
            self._tracing.request(submitted, tool.name, _SPAN) as (trace, _),
            request_context(
                request_id=stored.request_id,
                traceparent=trace.traceparent if trace else None,
                task=task_id,
            ),
            acting_as_token(principal),
            running(task),
        ):
            return await server.call_tool(tool.name, arguments)

    async def _load(self, owner: str | None, task_id: str) -> tuple[TaskCaller, dict[str, Any]]:
        async with asyncio.timeout(self._settings.tasks_timeout_s):
            while True:
                try:
                    stored = await self._caller(owner, task_id)
                    return stored, await load_task_args(self.docket, owner, task_id)
                except REDIS_AWAY:  # to fail the task now would lose it
                    await asyncio.sleep(_IDLE.total_seconds())

    async def _caller(self, owner: str | None, task_id: str) -> TaskCaller:
        key = caller_key(self.docket, owner, task_id)
        async with self.docket.redis() as redis:
            stored = await redis.get(key)
            attempts = await redis.lpush(f"{key}:attempts", str(os.getpid()))
            await redis.expire(f"{key}:attempts", _KEPT)
        if stored is None:
            raise NotFound("task", task_id, hint="It waited longer than a day; ask again")
        if attempts > _ATTEMPTS:
            raise InternalError(f"the task was given up after {_ATTEMPTS} attempts")
        return TaskCaller.of_json(stored)


class _AgainWhenRedisWasAway(Retry):
    """Runs a task again when Redis went away before its result was stored: docket would call the task failed."""

    def __init__(self) -> None:
        super().__init__(attempts=_ATTEMPTS)

    async def __aenter__(self) -> Self:
        return self

    async def handle_failure(self, execution: Execution, outcome: TaskOutcome) -> bool:
        """Return whether the task is queued again; whatever else a tool raises is its result."""
        return isinstance(outcome.exception, REDIS_AWAY) and await super().handle_failure(
            execution, outcome
        )


async def _run_until_stopped(worker: Worker) -> None:
    """Work until the task is cancelled; Redis being away is the worker's own business, a defect is ours to survive."""
    while True:
        try:
            await worker.run_forever()
        except Exception:  # the edge: one broken task must not end the work on all others
            log.exception("task_worker_failed")
            await asyncio.sleep(_IDLE.total_seconds())
        else:
            return  # it ends orderly when it is cancelled


async def _run_unknown(*_args: Any, **_arguments: Any) -> ToolResult:
    """Answer for a tool that this worker does not have; docket's own fallback would drop the task as done."""
    return error_result(Unavailable("a worker that has this tool"))
