"""`fleet_audit_search`: the audit records of the caller's tenant, on every service."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import Field

from fleet_common.audit import AuditLog
from fleet_common.audit.events import Decision
from fleet_common.audit.reading import Question
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

        It covers every replica where records go to a database, else this process's own file; the answer says which.
        """
        if log.reader is None:
            raise NotConfigured(
                "this service cannot read its audit records",
                hint="Search where they are collected",
            )
        await log.flush()
        question = Question(
            since=since, tenant=principal.tenant, subject=subject, tool=tool, decision=decision
        )
        found, looked_at = await log.reader.find(question, limit=limit, most=_MOST_RECORDS)
        stopped = len(found) == limit or looked_at == _MOST_RECORDS
        return table(
            _COLUMNS,
            [[record.get(name) for name in _COLUMNS] for record in found],
            truncated=stopped,
            note=f"Covers {log.reader.covers}."
            + (" Older records were not looked at: narrow the question." if stopped else ""),
        )

    return fleet_audit_search
