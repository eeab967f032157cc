"""What the gateway knows about the services."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Offer:
    """What one service offers; tools and prompts by exact name, resources by URI scheme."""

    tools: frozenset[str] = frozenset()
    prompts: frozenset[str] = frozenset()
    schemes: frozenset[str] = frozenset()


@dataclass(slots=True)
class ServiceState:
    """One service as it was seen last.

    Attributes:
        offer: what it offered at the last successful look; kept while it is away.
        is_ready: whether it said so at the last look.
        seen_at: time of the last successful look, UTC; None before the first.
    """

    url: str
    offer: Offer = field(default_factory=Offer)
    is_ready: bool = False
    seen_at: datetime | None = None
