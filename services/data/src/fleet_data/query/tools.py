"""Raw SQL as a model sees it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import Field, WithJsonSchema

from fleet_common.mcp import TABLE_SCHEMA, CurrentGrant, fence, table, touches
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.crm.showing import warned
from fleet_data.databases.models import OWN
from fleet_data.databases.service import Databases
from fleet_data.deps import get_caller, get_databases
from fleet_data.query.models import Answer, Detail, Param
from fleet_data.query.service import as_csv

_READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)

_JSON_ROWS = 100  # of an answer that nobody asked a form for; who wants more rows wants them short

PLAN_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "rows": {"type": "integer"},
        "cost": {"type": "integer"},
        "hints": {"type": "array"},
        "steps": {"type": "array"},
    },
    "required": ["steps"],
}

Sql = Annotated[
    str, Field(min_length=1, max_length=20_000, description="One SELECT, WITH, VALUES or TABLE.")
]
Params = Annotated[
    list[Param],
    Field(max_length=100),
    WithJsonSchema({"type": "array", "items": {}, "description": "Values for $1, $2, …"}),
]
DatabaseParam = Annotated[
    str, Field(max_length=63, description="`crm`, or another that db_schema lists.")
]


@tool(
    title="Query with SQL",
    meta=touches("untrusted", "private"),
    annotations=_READS,
    output_schema=TABLE_SCHEMA,
    tags={"db"},
)
async def db_query(  # noqa: PLR0917 - parameters of a tool are named
    sql: Sql,
    params: Params = [],  # noqa: B006 - never changed; a default that shows in the schema
    max_rows: Annotated[int, Field(ge=1, le=1000, description="Most rows.")] = 100,
    format: Annotated[  # noqa: A002 - the name callers know
        Literal["rows", "csv"] | None,
        Field(description="rows: JSON; csv: a fifth shorter, the default above 100 max_rows."),
    ] = None,
    database: DatabaseParam = OWN,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    databases: Databases = Depends(get_databases),
) -> ToolResult:
    """Answer a question with one read-only PostgreSQL statement: joins, aggregates, windows. Changes nothing.

    The CRM's views: companies, contacts, leads, deals, deal_stage_history, stages, activities, notes, tasks, users.
    Cut at max_rows and 256 kB: filter and aggregate in SQL.
    """
    queries = await databases.get(database, grant)
    most = grant.rows(max_rows)
    answer = await queries.run(caller, sql, params, max_rows=most)
    is_csv = format == "csv" or (format is None and most > _JSON_ROWS)
    return _as_csv(answer) if is_csv else _as_rows(answer)


@tool(
    title="Describe tables",
    meta=touches("untrusted", "private"),
    annotations=_READS,
    output_schema=TABLE_SCHEMA,
    tags={"db"},
)
async def db_schema(  # noqa: PLR0917 - as in db_query
    pattern: Annotated[
        str | None,
        Field(max_length=128, description="Name or schema.name; * is any text."),
    ] = None,
    detail: Annotated[
        Detail, Field(description="columns: with types; full: keys and comments.")
    ] = "names",
    database: DatabaseParam = OWN,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    databases: Databases = Depends(get_databases),
) -> ToolResult:
    """List the tables and views that SQL may read, and the databases: names first, then the columns of a few."""
    queries = await databases.get(database, grant)
    answer = await queries.relations(caller, pattern, detail)
    facts = {"databases": databases.names(grant)}
    if missing := await databases.missing(database):
        facts["protections_missing"] = list(missing)
    return table(
        answer.columns, answer.rows, truncated=answer.truncated, note=answer.note, extra=facts
    )


@tool(
    title="Explain SQL",
    meta=touches("private"),
    annotations=_READS,
    output_schema=PLAN_SCHEMA,
    tags={"db"},
)
async def db_explain(  # noqa: PLR0917 - as in db_query
    sql: Sql,
    params: Params = [],  # noqa: B006 - as in db_query
    database: DatabaseParam = OWN,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    databases: Databases = Depends(get_databases),
) -> dict[str, Any]:
    """Show how PostgreSQL would run a statement, with hints, for when db_query is slow. Runs nothing."""
    queries = await databases.get(database, grant)
    plan = await queries.explain(caller, sql, params)
    return {"rows": plan.rows, "cost": plan.cost, "hints": plan.hints, "steps": plan.steps}


TOOLS = (db_query, db_schema, db_explain)


def _as_rows(answer: Answer) -> ToolResult:
    return table(
        answer.columns,
        answer.rows,
        truncated=answer.truncated,
        note=answer.note,
        extra=warned(answer.rows),
    )


def _as_csv(answer: Answer) -> ToolResult:
    envelope = {
        "columns": list(answer.columns),
        "row_count": len(answer.rows),
        "truncated": answer.truncated,
        "next_cursor": None,
        "note": answer.note,
    }
    note = f"\n{answer.note}" if answer.note else ""
    return ToolResult(content=fence(as_csv(answer)) + note, structured_content=envelope)
