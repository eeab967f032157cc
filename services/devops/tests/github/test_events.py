from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from fleet_common.errors import InvalidInput
from fleet_common.mcp.app import create_app
from fleet_common.metrics import Metrics
from fleet_common.testing import serving
from fleet_common.testing.webhooks import github_headers
from fleet_common.webhooks import Delivery
from fleet_devops.github.events import GitHubEvents
from fleet_devops.server import SERVICE
from fleet_devops.settings import DevopsSettings

SECRET = "a-webhook-secret-of-32-characters"
BODY = json.dumps(
    {"action": "completed", "repository": {"full_name": "o/r"}, "sender": {"login": "someone"}}
).encode()


def delivery(body: bytes = BODY, event: str = "workflow_run") -> Delivery:
    return Delivery("github", "d1", {"x-github-event": event}, body)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("devops")


@pytest.fixture
def events(metrics: Metrics) -> GitHubEvents:
    return GitHubEvents(metrics)


def test_an_event_is_logged_and_counted(events: GitHubEvents, metrics: Metrics) -> None:
    with capture_logs() as lines:
        events.record(delivery())
    assert lines == [
        {
            "event": "github_event",
            "kind": "workflow_run",
            "action": "completed",
            "repository": "o/r",
            "delivery": "d1",
            "log_level": "info",
        }
    ]
    labels = {"service": "devops", "event": "workflow_run"}
    assert metrics.registry.get_sample_value("devops_github_events_total", labels) == 1


def test_a_header_that_nobody_signed_makes_no_series(
    events: GitHubEvents, metrics: Metrics
) -> None:
    events.record(delivery(event="invented"))
    labels = {"service": "devops", "event": "other"}
    assert metrics.registry.get_sample_value("devops_github_events_total", labels) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"repository": {}}', b'{"action": 1}'])
def test_what_github_does_not_send_is_refused(events: GitHubEvents, body: bytes) -> None:
    with pytest.raises(InvalidInput):
        events.record(delivery(body))


async def test_github_delivers_to_the_service(tmp_path: Path, redis_url: str) -> None:
    settings = DevopsSettings(
        keys_file=tmp_path / "keys.json", redis_url=redis_url, github_webhook_secrets=(SECRET,)
    )
    app = await asyncio.to_thread(create_app, SERVICE, settings)
    body = json.dumps({"zen": "Design for failure.", "repository": {"full_name": str(tmp_path)}})
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as http:
        headers = github_headers(body.encode(), SECRET, event="ping")
        taken = await http.post("/webhooks/github", content=body, headers=headers)
        forged = await http.post("/webhooks/github", content=body + " ", headers=headers)
        metrics = (await http.get("/metrics")).text
    assert (taken.status_code, forged.status_code) == (200, 401)
    assert 'devops_github_events_total{event="ping",service="devops"} 1.0' in metrics


def test_the_secrets_are_a_list_and_shown_to_nobody() -> None:
    settings = DevopsSettings.read({"FLEET_DEVOPS_GITHUB_WEBHOOK_SECRETS": f"{SECRET},another-one"})
    assert [s.get_secret_value() for s in settings.github_webhook_secrets] == [
        SECRET,
        "another-one",
    ]
    assert SECRET not in repr(settings)
