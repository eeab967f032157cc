"""A small service that shows every behaviour of the factory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fastmcp.prompts import prompt
from fastmcp.resources import resource
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations

from fleet_common.auth import Principal
from fleet_common.auth.keys import KeyFile
from fleet_common.errors import NotFound
from fleet_common.health import Check
from fleet_common.mcp import (
    TABLE_SCHEMA,
    Completing,
    CurrentDeps,
    CurrentPrincipal,
    Runtime,
    Service,
    fence,
    table,
)
from fleet_common.settings import ServiceSettings
from fleet_common.testing.npm import npm_packages

READS = ToolAnnotations(read_only_hint=True)


@dataclass
class Notes:
    """The dependency of the small service."""

    texts: dict[str, str] = field(default_factory=lambda: {"1": "first", "2": "second"})
    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    is_up: bool = True

    async def probe(self) -> None:
        if not self.is_up:
            raise ConnectionError("postgres://user:secret@host")


@tool(annotations=READS, output_schema=TABLE_SCHEMA)
async def note_list(notes: Notes = CurrentDeps()) -> ToolResult:
    """List the notes."""
    return table(["id", "text"], [[key, fence(text)] for key, text in notes.texts.items()])


@tool(annotations=READS)
async def note_get(note_id: str, notes: Notes = CurrentDeps()) -> str:
    """Get one note."""
    if note_id not in notes.texts:
        raise NotFound("note", note_id)
    return notes.texts[note_id]


@tool(annotations=READS)
async def note_crash() -> str:
    """Fail with a secret in the exception."""
    raise RuntimeError("postgres://user:secret@host is down")


@tool(annotations=READS)
async def note_sleep(notes: Notes = CurrentDeps()) -> str:
    """Sleep for long."""
    notes.started.set()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        notes.cancelled.set()
        raise
    return "slept"


@tool(annotations=READS)
async def note_upstream_timeout() -> str:
    """Fail as a dependency that is too slow."""
    raise TimeoutError


@tool
async def note_write(text: str, principal: Principal = CurrentPrincipal()) -> str:
    """Write a note."""
    return f"{principal.tenant}: {text}"


@tool(annotations=READS, meta={"fleet/scope": "data:admin"})
async def note_audit() -> str:
    """Read what only an admin may read."""
    return "audit"


@resource("note://{note_id}")
async def note_resource(note_id: str, notes: Notes = CurrentDeps()) -> str:
    """One note."""
    if note_id == "crash":
        raise RuntimeError("postgres://user:secret@host is down")
    if note_id not in notes.texts:
        raise NotFound("note", note_id)
    return notes.texts[note_id]


@prompt
async def note_review(note_id: str) -> str:
    """Review a note."""
    return f"Review note {note_id}."


async def complete_note(asked: Completing[Notes]) -> list[str]:
    assert asked.grant.scopes
    return [*(key for key in ("1", "12", "2") if key.startswith(asked.argument.value))]


@asynccontextmanager
async def open_notes(_settings: ServiceSettings, _runtime: Runtime) -> AsyncGenerator[Notes]:
    yield Notes()


def checks(notes: Notes) -> tuple[Check, ...]:
    return (Check("notes", notes.probe),)


@pytest.fixture
def service() -> Service[ServiceSettings, Notes]:
    return Service(
        name="data",
        version="1.2.3",
        instructions="Notes.",
        settings=ServiceSettings,
        open_deps=open_notes,
        tools=(
            note_list,
            note_get,
            note_crash,
            note_sleep,
            note_upstream_timeout,
            note_write,
            note_audit,
        ),
        resources=(note_resource,),
        prompts=(note_review,),
        complete=complete_note,
        checks=checks,
    )


@pytest.fixture
def keys_path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def viewer_key(keys_path: Path) -> str:
    return KeyFile(keys_path).create(name="test", roles=["viewer"], tenant="demo").text


@pytest.fixture
def settings(keys_path: Path) -> ServiceSettings:
    return ServiceSettings(keys_file=keys_path)


@pytest.fixture(scope="session")
def typescript() -> Path:
    """The folder with the official TypeScript clients; installed by npm once."""
    return npm_packages(Path(__file__).parent / "npm" / "package.json")
