"""What the gateway itself says about tasks: that they exist, and that it has none.

A task belongs to a service, whose name its id begins with; the router sends `tasks/*` there. What is left over
names no service, and is answered as an unknown task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastmcp.server.extensions import MethodBinding, ServerExtension
from fastmcp.utilities.tasks import TASKS_EXTENSION_ID
from mcp import MCPError
from mcp_types import INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, Field

from fleet_gateway.routing.models import TASKS


class _Params(RequestParams):
    task_id: str = Field(alias="taskId")


class TaskCapability(ServerExtension):
    """Declares the tasks extension on the gateway's own server."""

    identifier = TASKS_EXTENSION_ID

    def methods(self) -> Sequence[MethodBinding]:
        """Return the handlers of ids that no service has."""
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        return [MethodBinding(name, _Params, self._unknown, versions) for name in sorted(TASKS)]

    async def _unknown(self, context: Any, params: _Params) -> BaseModel:
        # The services ask this first, too.
        if self.client_settings(context) is None:
            raise MCPError(
                MISSING_REQUIRED_CLIENT_CAPABILITY,
                f"the client did not declare {self.identifier}",
                {"requiredCapabilities": {"extensions": {self.identifier: {}}}},
            )
        raise MCPError(INVALID_PARAMS, f"Task {params.task_id} not found")
