"""Long work as tasks on Redis: what the rest of the fleet may know about them without the protocol.

`fleet_common.mcp.tasks` speaks the protocol and runs the work; docs/tasks.md says what callers and operators see.
"""

from fleet_common.tasks.caller import TaskCaller
from fleet_common.tasks.depth import QueueDepth, queue_name
from fleet_common.tasks.running import RunningTask, running_task

__all__ = ["QueueDepth", "RunningTask", "TaskCaller", "queue_name", "running_task"]
