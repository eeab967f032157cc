"""The MCP side of a service: declare a `Service`, and every door, guard and middleware is the fleet's."""

from fleet_common.mcp.approval import CurrentPlan
from fleet_common.mcp.caching import cached
from fleet_common.mcp.declared import touches
from fleet_common.mcp.identity import CurrentGrant, CurrentPrincipal
from fleet_common.mcp.results import TABLE_SCHEMA, fence, table
from fleet_common.mcp.runtime import Runtime
from fleet_common.mcp.service import Completing, CurrentDeps, HttpRoute, Service

__all__ = [
    "TABLE_SCHEMA",
    "Completing",
    "CurrentDeps",
    "CurrentGrant",
    "CurrentPlan",
    "CurrentPrincipal",
    "HttpRoute",
    "Runtime",
    "Service",
    "cached",
    "fence",
    "table",
    "touches",
]
