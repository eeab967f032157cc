"""Nouns of the pipeline: moves, reports and conversions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal
from uuid import UUID

GroupBy = Literal["stage", "owner", "month", "company"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a pipeline."""

    pipeline: str
    key: str
    kind: Literal["open", "won", "lost"]


@dataclass(frozen=True, slots=True)
class Move:
    """One call of crm_deal_move."""

    deal_id: UUID
    stage: str
    reason: str | None = None
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a move; `change_set_id` is None when the deal was in that stage already."""

    deal_id: str
    stage: str
    before: str
    status: str
    change_set_id: str | None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What to count: deals of a pipeline made or closed in a period, the first day and the day after the last."""

    pipeline: str
    group_by: GroupBy
    since: date | None = None
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Conversion:
    """One call of lead_convert; the deal is made when `deal` says so."""

    lead_id: UUID
    deal: bool = True
    deal_name: str | None = None
    amount: float | None = None


@dataclass(frozen=True, slots=True)
class Converted:
    """What a lead became: ids, and which of them are new."""

    contact_id: str
    company_id: str | None
    deal_id: str | None
    created: Mapping[str, Any]
    change_set_id: str | None
    dry_run: bool = False
