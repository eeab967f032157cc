"""`fleet_audit_search`: the audit records of the caller's tenant, on every service."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import Field

from fleet_common.audit import AuditLog
from fleet_common.audit.chain import Record
from fleet_common.audit.events import Decision
from fleet_common.audit.reading import Question, newest_first
from fleet_common.audit.sinks import FileSink
from fleet_common.auth import Principal
from fleet_common.errors import NotConfigured
from fleet_common.mcp.declared import SCOPE_META, touches
from fleet_common.mcp.identity import CurrentPrincipal
from fleet_common.mcp.params import Limit
from fleet_common.mcp.results import TABLE_SCHEMA, table

_MOST_RECORDS = 50_000  # looked at by one call: about a second
_COLUMNS = (
    *("time", "subject", "action", "target", "decision", "rule", "outcome", "ms", "request"),
    "arguments",
)

Since = Annotated[
    datetime | None, Field(description="Oldest time of interest, ISO 8601 with its offset.")
]
Subject = Annotated[
    str | None, Field(max_length=256, description="Whose calls, such as key:ab12cd34.")
]
Target = Annotated[
    str | None, Field(max_length=256, description="Name or glob of the tool, such as crm_*.")
]
Decided = Annotated[Decision | None, Field(description="allow, deny, shed, ask, …")]


def audit_search(service: str, log: AuditLog) -> Callable[..., Any]:
    """Return the tool for one service: it needs the scope `<service>:admin`."""

    @tool(
        title="Search the audit log",
        output_schema=TABLE_SCHEMA,
        annotations=ToolAnnotations(
            read_only_hint=True, idempotent_hint=True, destructive_hint=False, open_world_hint=False
        ),
        meta={SCOPE_META: f"{service}:admin", **touches("private")},
    )
    async def fleet_audit_search(
        *,
        since: Since = None,
        subject: Subject = None,
        tool: Target = None,
        decision: Decided = None,
        limit: Limit = 50,
        principal: Principal = CurrentPrincipal(),
    ) -> ToolResult:
        """Show who called what in your tenant, newest first: allowed, denied and shed calls, by digest of arguments.

        It reads this replica's audit file only. Where several replicas run, or records go elsewhere, search the
        collected records instead.
        """
        if not isinstance(log.sink, FileSink):
            raise NotConfigured(
                "this service keeps no audit file",
                hint="Search where its records are collected, or in the table fleet_audit",
            )
        await log.flush()
        question = Question(
            since=since, tenant=principal.tenant, subject=subject, tool=tool, decision=decision
        )
        found, looked_at = await anyio.to_thread.run_sync(_find, log.sink.path, question, limit)
        stopped = len(found) == limit or looked_at == _MOST_RECORDS
        return table(
            _COLUMNS,
            [[record.get(name) for name in _COLUMNS] for record in found],
            truncated=stopped,
            note="Older records were not looked at: narrow the question." if stopped else None,
        )

    return fleet_audit_search


def _find(path: Path, question: Question, limit: int) -> tuple[list[Record], int]:
    """Return the newest records that fit, and how many were looked at."""
    found: list[Record] = []
    looked_at = 0
    for record in islice(newest_first(path, question), _MOST_RECORDS):
        looked_at += 1
        if record is not None:
            found.append(record)
        if len(found) == limit:
            break
    return found, looked_at
