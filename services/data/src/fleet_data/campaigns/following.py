"""Following a campaign that the worker sends: a call that runs as a task waits for its end, any other looks once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

from fleet_common.tasks import running_task
from fleet_data.campaigns.models import Stats
from fleet_data.campaigns.service import Campaigns
from fleet_data.claims import Caller

_LOOK_S = 2.0

Report = Callable[[float, float, str], Awaitable[None]]


async def follow(campaigns: Campaigns, caller: Caller, id_: UUID, report: Report) -> Stats:
    """Return the state of a campaign; in a task, only once it is no longer being sent."""
    while True:
        stats, _ = await campaigns.stats(caller, id_)
        left = stats.counts.get("queued", 0) + stats.counts.get("claimed", 0)
        done = stats.recipients - left
        await report(done, stats.recipients, f"{done} of {stats.recipients} mails")
        if running_task() is None or stats.state != "sending":
            return stats
        await asyncio.sleep(_LOOK_S)
