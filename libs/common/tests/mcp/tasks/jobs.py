"""A small service whose tools may run as tasks; also a program: `python jobs.py serve|worker`.

Its name comes from the environment, so that every test has a queue of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import mcp_types as mt
from fastmcp import Context
from fastmcp.dependencies import CurrentContext
from fastmcp.tools import tool
from fastmcp.utilities.tasks import TaskConfig

from fleet_common.approvals import Plan, needs_approval
from fleet_common.auth import Principal
from fleet_common.deadline import remaining
from fleet_common.errors import NotFound
from fleet_common.mcp import CurrentDeps, CurrentPlan, CurrentPrincipal, Runtime, Service
from fleet_common.mcp.run import run
from fleet_common.policy import Grant
from fleet_common.settings import ServiceSettings
from fleet_common.tasks import running_task

SCOPE = {"fleet/scope": "data:write"}


@dataclass
class Jobs:
    """The dependency of the small service."""

    held: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    ended: list[str] = field(default_factory=list)


async def note(path: str, line: str) -> None:
    """Append a line to a file."""
    async with await anyio.open_file(path, "a") as out:
        await out.write(f"{line}\n")


@tool(task=True, meta=SCOPE)
async def job_count(path: str, steps: int = 1, ctx: Context = CurrentContext()) -> str:
    """Append one line per step: process, step."""
    for step in range(1, steps + 1):
        await note(path, f"{os.getpid()} {step}")
        await ctx.report_progress(step, steps, f"step {step} of {steps}")
        await asyncio.sleep(0.05)
    return f"counted to {steps}"


@tool(task=True, meta=SCOPE)
async def job_wait(path: str, ctx: Context = CurrentContext()) -> str:
    """Say that it began, report while it waits, and end when a file of that name with `.go` appears."""
    await note(path, str(os.getpid()))
    while not await anyio.Path(f"{path}.go").exists():
        await ctx.report_progress(1, 2, "waiting")
        await asyncio.sleep(0.05)
    return f"ended in {os.getpid()}"


@tool(task=True, meta=SCOPE, timeout=1.0)
async def job_hold(ctx: Context = CurrentContext(), jobs: Jobs = CurrentDeps()) -> str:
    """Hold until the test lets go; longer than a call of it may take."""
    await ctx.report_progress(1, 2, "holding")
    jobs.held.set()
    try:
        await jobs.release.wait()
    except asyncio.CancelledError:
        jobs.ended.append("cancelled")
        raise
    jobs.ended.append("finished")
    return "held"


@tool(task=True, meta=SCOPE)
async def job_who(principal: Principal = CurrentPrincipal()) -> dict[str, Any]:
    """Say who is calling, in which task and with how much time."""
    task = running_task()
    return {
        "subject": principal.subject,
        "tenant": principal.tenant,
        "task": task.id if task else None,
        "seconds": remaining(1e9),
    }


@tool(task=True, meta=SCOPE)
async def job_fail() -> str:
    """Fail as a tool may."""
    raise NotFound("job", 7)


@tool(task=True, meta=SCOPE)
async def job_crash() -> str:
    """Fail with a secret in the exception."""
    raise RuntimeError("postgres://user:secret@host is down")


@tool(task=True, meta=SCOPE)
async def job_ask(ctx: Context = CurrentContext()) -> str | mt.InputRequiredResult:
    """Ask for a name in the middle."""
    answers = ctx.input_responses or {}
    if "name" in answers:
        return f"Hello, {_said(answers['name'])['name']}"
    return mt.InputRequiredResult(input_requests={"name": _question("Who?")})


def _question(text: str) -> mt.ElicitRequest:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    params = mt.ElicitRequestFormParams(message=text, requested_schema=schema)
    return mt.ElicitRequest(method="elicitation/create", params=params)


# Any: whatever the client's form holds.
def _said(answer: Any) -> dict[str, Any]:
    assert isinstance(answer, mt.ElicitResult)
    assert answer.content is not None
    return answer.content


@tool(task=TaskConfig(mode="required"), meta={**SCOPE, "fleet/asksFirst": True})
async def job_begin(ctx: Context = CurrentContext()) -> str | mt.InputRequiredResult:
    """Ask for a name before there is a task, and for a size in the middle of it."""
    known = json.loads(ctx.request_state or '{"rounds": 0}')
    known |= {name: _said(said)["name"] for name, said in (ctx.input_responses or {}).items()}
    known["rounds"] += 1
    asked = {"who": "Who?"} if "who" not in known else {"size": "How big?"}
    if asked.keys() <= known.keys():
        task = running_task()
        return json.dumps({**known, "task": task.id if task else None})
    questions = {name: _question(text) for name, text in asked.items()}
    return mt.InputRequiredResult(input_requests=questions, request_state=json.dumps(known))


async def plan_delete(arguments: dict[str, str], _grant: Grant, _jobs: Jobs) -> Plan:
    """Say what would be deleted."""
    return Plan(f"Delete {arguments['name']}", object_version="7")


@needs_approval(plan=plan_delete)
@tool(task=True, meta=SCOPE)
async def job_delete(name: str, plan: Plan | None = CurrentPlan()) -> str:
    """Delete something, once a person said yes."""
    return f"deleted {name} at version {plan.object_version if plan else None}"


@tool(task=TaskConfig(mode="required"), meta=SCOPE)
async def job_only() -> str:
    """Run as a task or not at all."""
    return "a task"


@tool(meta=SCOPE)
async def job_inline(ctx: Context = CurrentContext()) -> dict[str, Any]:
    """Never run as a task, and call a tool that may."""
    return (await ctx.fastmcp.call_tool("job_who", {})).structured_content or {}


def service(name: str, jobs: Jobs | None = None) -> Service[ServiceSettings, Jobs]:
    """Return the service under this name."""

    @asynccontextmanager
    async def opened(_settings: ServiceSettings, _runtime: Runtime) -> AsyncGenerator[Jobs]:
        yield jobs or Jobs()

    return Service(
        name=name,
        version="1",
        instructions="Jobs.",
        settings=ServiceSettings,
        open_deps=opened,
        tools=(
            job_count,
            job_wait,
            job_hold,
            job_who,
            job_fail,
            job_crash,
            job_ask,
            job_begin,
            job_delete,
            job_only,
            job_inline,
        ),
    )


if __name__ == "__main__":
    sys.exit(run(service(os.environ["JOBS_NAME"])))
