"""Plans: how a tool says what a call would do, before anybody is asked.

```python
class Deletion(BaseModel):
    id: UUID

async def plan_deletion(arguments: Deletion, grant: Grant, deps: Deps) -> Plan | None: ...

@needs_approval(plan=plan_deletion)
@tool(annotations=DESTROYS)
async def note_delete(id: UUID, plan: Plan | None = CurrentPlan()) -> str: ...
```
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter

from fleet_common.approvals.models import Plan
from fleet_common.policy import Grant

# Any: each tool's planner names its own arguments and its own service's dependencies.
Planner = Callable[[Any, Grant, Any], Awaitable[Plan | None]]
"""Returns what a call would do; None when it would change nothing, as a dry run or a repeated call does.

It gets the arguments, checked against its own annotation (normally a pydantic model; what that does not name is left
out), and how far the caller reaches, to show and to refuse what the tool would. It changes nothing.
"""

Fn = TypeVar("Fn", bound=Callable[..., Any])
_ATTRIBUTE = "__fleet_plan__"


def needs_approval(*, plan: Planner) -> Callable[[Fn], Fn]:
    """Return the decorator that makes calls of a tool wait for an approval of what `plan` returns."""
    arguments = TypeAdapter(get_type_hints(plan, include_extras=True)["arguments"])

    async def checked(raw: Mapping[str, Any], grant: Grant, deps: Any) -> Plan | None:
        return await plan(arguments.validate_python(raw), grant, deps)

    def mark(fn: Fn) -> Fn:
        setattr(fn, _ATTRIBUTE, checked)
        return fn

    return mark


def planner_of(fn: Callable[..., Any]) -> Planner | None:
    """Return the planner that `needs_approval` gave a tool, or None."""
    planner: Planner | None = getattr(fn, _ATTRIBUTE, None)
    return planner


def plain_planner(title: str) -> Planner:
    """Return the planner of a tool that has none and that a policy guards all the same: it shows the arguments."""

    async def plan(arguments: Mapping[str, Any], _grant: Grant, _deps: Any) -> Plan | None:
        shown = {name: json.dumps(value, default=str) for name, value in arguments.items()}
        return Plan(summary=f"Run {title!r}", details=shown)

    return plan
