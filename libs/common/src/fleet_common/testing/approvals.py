"""A small service with a destructive tool, as replicas that share everything, and people who answer its questions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from fastmcp import Client
from fastmcp.client.auth import BearerAuth
from fastmcp.client.client import CallToolResult
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from pydantic import BaseModel

from fleet_common.approvals import Approver, Plan, needs_approval
from fleet_common.approvals.desk import Desk
from fleet_common.audit import AuditLog
from fleet_common.auth import Principal
from fleet_common.auth.keys import KeyFile
from fleet_common.errors import NotFound
from fleet_common.mcp import CurrentDeps, CurrentPlan, Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.mcp.middleware import ERROR_META
from fleet_common.mcp.server import create_server
from fleet_common.policy import BUILT_IN, ApprovalRule, Grant, PolicyFile
from fleet_common.redis import create_redis
from fleet_common.settings import ServiceSettings
from fleet_common.testing.audit import MemorySink
from fleet_common.testing.http import serving
from fleet_common.testing.principals import principal

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
    """The arguments of note_delete that its plan needs."""

    note_id: str


async def plan_deletion(arguments: Deletion, _: Grant, shelf: Shelf) -> Plan | None:
    """Return which note would be deleted; deleting `nothing` changes nothing."""
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
    why: str = "",  # noqa: ARG001 - what a model says, which nobody must be shown
    shelf: Shelf = CurrentDeps(),
    plan: Plan | None = CurrentPlan(),
) -> str:
    """Delete a note."""
    shelf.deleted.append(note_id)
    return f"deleted {note_id} at version {plan.object_version if plan else None}"


@tool(annotations=DESTROYS)
async def note_purge(everything: bool, shelf: Shelf = CurrentDeps()) -> str:
    """Delete all notes; has no planner."""
    if everything:
        shelf.deleted.extend(shelf.versions)
    return "purged"


class Replicas:
    """Makes replicas of one service that share settings, keys, Redis and notes."""

    def __init__(self, redis_url: str, keys: KeyFile, settings: ServiceSettings) -> None:
        tenant = f"t{uuid4().hex[:8]}"  # of its own: no other test's approvals are seen
        self.redis_url = redis_url
        self.settings = settings
        self.shelf = Shelf()
        self.audited = MemorySink()
        self.caller = principal("sales", tenant=tenant, subject="key:agent")
        self.key, self.other_key = (
            keys.create(name="x", roles=["sales"], tenant=tenant).text for _ in range(2)
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
        redis = create_redis(self.redis_url, timeout_s=8)
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
    """Yield the notes as a service opens its dependencies."""
    yield shelf


def replicas(redis_url: str, folder: Path) -> Replicas:
    """Return replicas that share a Redis, settings, keys and notes; their key file is made in `folder`."""
    told = {
        "redis_url": redis_url,
        "approvals_key": uuid4().hex,
        "keys_file": folder / "keys.json",
        "approve_url": "https://fleet.example/approve",
    }
    settings = ServiceSettings.model_validate(told)
    return Replicas(redis_url, KeyFile(folder / "keys.json"), settings)


async def yes(*_: Any) -> ElicitResult[Any]:
    """Answer a question with yes."""
    return ElicitResult(action="accept", content={"approve": True})


async def no(*_: Any) -> ElicitResult[Any]:
    """Answer a question with no."""
    return ElicitResult(action="decline")


async def delete(client: Client[Any], note_id: str = "1", **more: Any) -> CallToolResult:
    """Call note_delete and return what came of it."""
    result: CallToolResult = await client.call_tool(
        "note_delete", {"note_id": note_id, **more}, raise_on_error=False
    )
    return result


def facts(result: CallToolResult) -> dict[str, Any]:
    """Return the facts of a refusal."""
    assert result.is_error  # noqa: S101 - a test's own check
    assert result.meta is not None  # noqa: S101 - as above
    told: dict[str, Any] = result.meta[ERROR_META]
    return told


async def approve(fleet: Replicas, result: CallToolResult, *, by: str = "key:boss") -> None:
    """Approve what a refusal asks for, as the page does."""
    async with fleet.desk() as desk:
        request = await desk.find(fleet.caller.tenant, facts(result)["approval"]["id"])
        assert request is not None  # noqa: S101 - as above
        boss = Approver(fleet.caller.tenant, by)
        await desk.decide(request, boss, "approved")
