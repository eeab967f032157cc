"""What a model can read before it writes SQL: one table or view."""

from __future__ import annotations

from fastmcp.dependencies import Depends
from fastmcp.resources import resource
from pydantic_core import to_json

from fleet_common.mcp import CurrentGrant
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.databases.models import OWN
from fleet_data.databases.service import Databases
from fleet_data.deps import get_caller, get_databases


@resource(
    "db://schema/{table}",
    name="db_table",
    title="Schema of a table or view",
    mime_type="application/json",
    tags={"db"},
)
async def db_table(
    table: str,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    databases: Databases = Depends(get_databases),
) -> str:
    """Return the columns, keys and comments of a table or view that SQL may read, such as `crm.deals`."""
    queries = await databases.get(OWN, grant)
    return to_json(await queries.relation(caller, table)).decode()


RESOURCES = (db_table,)
