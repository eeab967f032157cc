"""GitHub's own word that something happened in a repository.

Answers that are cached need no such word: each is confirmed by GitHub before it is used (see `cache`). Events are
logged and counted.
"""

from __future__ import annotations

import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError

from fleet_common.errors import InvalidInput
from fleet_common.metrics import Metrics
from fleet_common.webhooks import Delivery

log = structlog.get_logger()

# The header that names the event is not signed, so it may only choose from these.
_KNOWN = frozenset(
    {
        *("ping", "push", "create", "delete", "release", "issues", "issue_comment", "pull_request"),
        *(
            "pull_request_review",
            "workflow_run",
            "workflow_job",
            "check_run",
            "check_suite",
            "status",
        ),
        *("deployment", "deployment_status", "repository"),
    }
)
_OTHER = "other"


class _Repository(BaseModel):
    full_name: str


class _Event(BaseModel):
    action: str | None = None
    repository: _Repository | None = None


_EVENT = TypeAdapter(_Event)


class GitHubEvents:
    """Takes the deliveries of the GitHub webhook."""

    def __init__(self, metrics: Metrics) -> None:
        self._counted = metrics.counter(
            "devops_github_events_total", "Events that GitHub delivered, by kind.", "event"
        )

    def record(self, delivery: Delivery) -> None:
        """Log and count one event.

        Raises:
            InvalidInput: it is signed, and yet not what GitHub sends.
        """
        try:
            event = _EVENT.validate_json(delivery.body)
        except ValidationError:
            raise InvalidInput("this is no event of GitHub") from None
        named = delivery.headers.get("x-github-event", "")
        kind = named if named in _KNOWN else _OTHER
        self._counted.labels(event=kind).inc()
        log.info(
            "github_event",
            kind=kind,
            action=event.action,
            repository=event.repository.full_name if event.repository else None,
            delivery=delivery.id,
        )
