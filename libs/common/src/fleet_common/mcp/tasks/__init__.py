"""MCP tasks (SEP-2663) with FastMCP's tasks extension as the wire and docket as the queue.

Imported only by services that have a tool with `task=`: docket costs a third of a second to import.
"""

from fleet_common.mcp.tasks.extension import FleetTasks

__all__ = ["FleetTasks"]
