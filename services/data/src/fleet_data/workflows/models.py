"""Nouns of workflows: a definition as its author writes it, and how contacts get on with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from fleet_data.crm.filters import Filter


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Trigger(_Strict):
    """What must happen: a record is created, or a field of it changes, to a certain value if one is named."""

    object: Literal["contact", "deal"]
    on: Literal["created", "changed"] = "created"
    field: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")] | None = None
    to: str | None = None


class Wait(_Strict):
    """Go on after so many hours."""

    do: Literal["wait"]
    hours: Annotated[float, Field(gt=0, le=24 * 365)]


class Condition(_Strict):
    """Go on only if the contact meets this; others leave the workflow."""

    do: Literal["if"]
    where: Filter


class SendMail(_Strict):
    """Send the letter of a template; consent and suppression hold as in a campaign."""

    do: Literal["mail"]
    template: Annotated[str, Field(min_length=1, max_length=120)]
    from_name: Annotated[str, Field(min_length=1, max_length=100)]


class MakeTask(_Strict):
    """Give somebody something to do about the contact."""

    do: Literal["task"]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    due_days: Annotated[int, Field(ge=0, le=365)] = 1


class MoveStage(_Strict):
    """Set the contact's lifecycle, or the stage of the deal that the workflow is about."""

    do: Literal["stage"]
    to: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]


class AddScore(_Strict):
    """Add to the score of the leads with the contact's address, within 0 and 100."""

    do: Literal["score"]
    add: Annotated[int, Field(ge=-100, le=100)]


class CallWebhook(_Strict):
    """Tell another system, by the name that the operator gave it."""

    do: Literal["webhook"]
    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$")]


Step = Annotated[
    Wait | Condition | SendMail | MakeTask | MoveStage | AddScore | CallWebhook,
    Field(discriminator="do"),
]


class Definition(_Strict):
    """A workflow: when it begins, and what is done then, in order."""

    trigger: Trigger
    steps: Annotated[list[Step], Field(min_length=1, max_length=30)]


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow as it is in the database."""

    id: UUID
    version: int
    name: str
    definition: Definition
    state: Literal["off", "on"]
    started_by: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """One contact at one step."""

    id: UUID
    contact_id: UUID
    record_id: UUID
    step: int
    steps: list[Any]
    email: str | None


@dataclass(frozen=True, slots=True)
class WorkflowState:
    """A workflow, and how many contacts are where."""

    id: str
    name: str
    version: int
    state: str
    counts: Mapping[str, int]
