"""Walking through what changed at HubSpot, oldest first, by the time of the change instead of by pages.

A search of HubSpot ends at 10,000 results, and its pages shift while records change. So each batch asks for what was
modified at or after the last one's end. Where a hundred and more share one millisecond (an import does that), these are
walked by id. Records appear in the search a while after they changed: a new walk begins five minutes before the end of
the last one, and what is known already comes to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet_data.connectors.hubspot.client import HubSpot
from fleet_data.connectors.hubspot.mapping import ObjectMap
from fleet_data.connectors.hubspot.models import BATCH, Position, Remote

OVERLAP_MS = 5 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Records, and where the next ones begin; None at the end."""

    remotes: Sequence[Remote]
    following: Position | None


async def pull_page(hubspot: HubSpot, of: ObjectMap, at: Position) -> Page:
    """Return the records after a position, whose `at` is a time in ms, and `after` an id among those of that time."""
    since = int(at.at or 0)
    if at.after is not None:
        return await _same_time(hubspot, of, at, since)
    filters = [{"propertyName": of.modified, "operator": "GTE", "value": str(since)}]
    found = await hubspot.search(of, filters, sort=of.modified)
    if len(found) < BATCH:
        return Page(found, None)
    last = max(each.modified_ms for each in found)
    if last > since:
        return Page(found, Position(at.step, str(last)))
    return Page([], Position(at.step, str(since), "0"))


async def _same_time(hubspot: HubSpot, of: ObjectMap, at: Position, time_ms: int) -> Page:
    """Return records that were modified at one time, by their ids."""
    filters = [
        {"propertyName": of.modified, "operator": "EQ", "value": str(time_ms)},
        {"propertyName": "hs_object_id", "operator": "GT", "value": str(at.after)},
    ]
    found = await hubspot.search(of, filters, sort="hs_object_id")
    if len(found) < BATCH:
        return Page(found, Position(at.step, str(time_ms + 1)))
    return Page(found, Position(at.step, str(time_ms), found[-1].id))
