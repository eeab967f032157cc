"""What the gateway knows about the services."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fleet_common.mcp.envelope import Envelope
from fleet_gateway.routing.models import LISTS, of_body

_READS = frozenset(
    {*LISTS, "prompts/get", "resources/read", "completion/complete", "server/discover"}
    | {"initialize", "ping", "tasks/get", "tasks/cancel"}
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What one service offers; tools and prompts by exact name, resources by URI scheme.

    Attributes:
        repeatable: tools that only read, or that do the same thing when they run twice.
        held: tools whose definition changed while the version stayed; they are not among `tools`.
        digest: another number when any row is another.
    """

    version: str = ""
    tools: frozenset[str] = frozenset()
    prompts: frozenset[str] = frozenset()
    schemes: frozenset[str] = frozenset()
    repeatable: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    digest: int = 0

    def has(self, envelope: Envelope) -> bool:
        """Return whether this is what `envelope` names."""
        if envelope.method == "tools/call":
            return envelope.name in self.tools
        scheme = envelope.name.partition("://")[0]
        match envelope.method:
            case "prompts/get":
                return envelope.name in self.prompts
            case "resources/read":
                return scheme in self.schemes
            case "completion/complete":
                return envelope.name in self.prompts or scheme in self.schemes
            case _:
                return False


@dataclass(slots=True)
class ServiceState:
    """One service as it was seen last.

    Attributes:
        offer: what it offered at the last successful look; kept while it is away.
        is_ready: whether it said so at the last look.
        seen_at: time of the last successful look, UTC; None before the first.
        labelled_version: its version by its label in the cluster, for a server that does not name one.
    """

    offer: Offer = field(default_factory=Offer)
    is_ready: bool = False
    seen_at: datetime | None = None
    labelled_version: str = ""


class Catalogue:
    """Which service offers what, as of the last look at each."""

    def __init__(self, services: Iterable[str]) -> None:
        self.services = {name: ServiceState() for name in services}

    def owner(self, envelope: Envelope) -> str | None:
        """Return the service that owns what `envelope` names, or None."""
        for name, state in self.services.items():
            if state.offer.has(envelope):
                return name
        return None

    def unseen(self) -> str | None:
        """Return a service that has never answered, or None."""
        return next((name for name, state in self.services.items() if not state.seen_at), None)

    def may_run_twice(self, message: Any) -> bool:
        """Return whether a request that may have run can be sent again.

        It can when it only reads, when its tool says that it is idempotent, or when it carries an idempotency key.
        """
        envelope = of_body(message)
        if envelope.method != "tools/call":
            return envelope.method in _READS
        if any(envelope.name in state.offer.repeatable for state in self.services.values()):
            return True
        arguments = message["params"].get("arguments")
        return isinstance(arguments, dict) and bool(arguments.get("idempotency_key"))
