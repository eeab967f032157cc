from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from fleet_cli.engines.freeport import free_port
from fleet_cli.engines.valkey import Valkey
from fleet_common.errors import Unavailable
from fleet_common.mcp import Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.settings import ServiceSettings, SettingsError
from fleet_common.testing import serving
from fleet_common.testing.webhooks import github_headers
from fleet_common.webhooks import Delivery, Webhook

SECRET = "a-webhook-secret-of-32-characters"
HOOK = "/webhooks/github"


@dataclass
class Work:
    """What the handler does, and what it did."""

    done: list[Delivery] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Mapping[str, Any] | None = None

    async def handle(self, delivery: Delivery, deps: Work) -> Mapping[str, Any] | None:
        assert deps is self
        self.started.set()
        await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.done.append(delivery)
        return self.answer


@pytest.fixture
def work() -> Work:
    work = Work()
    work.go.set()
    return work


@pytest.fixture
def hook(work: Work) -> Webhook:
    return Webhook(provider="github", secrets=lambda _: [SecretStr(SECRET)], handle=work.handle)


def service_with(work: Work, *hooks: Webhook) -> Service[ServiceSettings, Work]:
    @asynccontextmanager
    async def opened(_settings: ServiceSettings, _runtime: Runtime) -> AsyncGenerator[Work]:
        yield work

    return Service(
        name=f"t{uuid4().hex[:10]}",  # its own deliveries in the shared Redis
        version="1",
        instructions="",
        settings=ServiceSettings,
        open_deps=opened,
        webhooks=hooks,
    )


@asynccontextmanager
async def replicas(
    service: Service[Any, Any], settings: ServiceSettings, count: int = 1
) -> AsyncIterator[list[httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            app = await asyncio.to_thread(create_app, service, settings)
            url = await stack.enter_async_context(serving(app))
            clients.append(await stack.enter_async_context(httpx.AsyncClient(base_url=url)))
        yield clients


@pytest.fixture
def wired(keys_path: Path, redis_url: str) -> ServiceSettings:
    return ServiceSettings(keys_file=keys_path, redis_url=redis_url)


@pytest.fixture
async def http(
    work: Work, hook: Webhook, wired: ServiceSettings
) -> AsyncGenerator[httpx.AsyncClient]:
    async with replicas(service_with(work, hook), wired) as (client,):
        yield client


def push(**facts: Any) -> bytes:
    return json.dumps({"ref": "refs/heads/main", **facts}).encode()


async def test_a_signed_delivery_reaches_the_handler_as_it_was_sent(
    http: httpx.AsyncClient, work: Work
) -> None:
    body = b'{ "spaces" :  "kept\\u00fc" }'
    response = await http.post(
        HOOK, content=body, headers=github_headers(body, SECRET, delivery="d-1")
    )
    assert response.status_code == 200
    (delivery,) = work.done
    assert (delivery.provider, delivery.id, delivery.body) == ("github", "d-1", body)
    assert delivery.headers["x-github-event"] == "push"
    assert delivery.json() == {"spaces": "keptü"}


async def test_a_finished_delivery_is_not_run_again(http: httpx.AsyncClient, work: Work) -> None:
    body = push()
    first = github_headers(body, SECRET, delivery="d-1")
    replayed = github_headers(body, SECRET, delivery="d-2")  # the id is not signed
    statuses = [
        (await http.post(HOOK, content=body, headers=h)).status_code
        for h in (first, first, replayed)
    ]
    assert statuses == [200, 200, 200]
    assert len(work.done) == 1
    text = (await http.get("/metrics")).text
    assert 'outcome="duplicate",provider="github"' in text


@pytest.mark.parametrize("path", ["/webhooks/stripe", "/webhooks/nobody", "/webhooks/"])
async def test_an_unknown_provider_is_a_404(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.post(path, content=b"{}")).status_code == 404


@pytest.mark.parametrize("damage", ["secret", "body", "missing"])
async def test_a_bad_signature_is_a_401_that_says_nothing(
    http: httpx.AsyncClient, work: Work, damage: str
) -> None:
    body = push()
    headers = github_headers(body, SECRET if damage != "secret" else "another-secret")
    if damage == "missing":
        del headers["x-hub-signature-256"]
    sent = body + b" " if damage == "body" else body
    response = await http.post(HOOK, content=sent, headers=headers)
    assert response.status_code == 401
    assert response.json() == {"code": "unauthenticated", "retryable": False}
    assert work.done == []


@pytest.mark.parametrize(
    "failure", [RuntimeError("a secret"), Unavailable("GitHub"), TimeoutError()]
)
async def test_a_handler_that_fails_is_run_again_by_the_senders_repeat(
    http: httpx.AsyncClient, work: Work, failure: Exception
) -> None:
    work.failures.append(failure)
    body = push()
    headers = github_headers(body, SECRET)
    failed = await http.post(HOOK, content=body, headers=headers)
    assert failed.status_code >= 500
    assert "secret" not in failed.text
    assert (await http.post(HOOK, content=body, headers=headers)).status_code == 200
    assert len(work.done) == 1


async def test_identical_deliveries_at_two_replicas_at_once_run_once(
    work: Work, hook: Webhook, wired: ServiceSettings
) -> None:
    work.go.clear()
    body = push()
    headers = github_headers(body, SECRET)
    async with replicas(service_with(work, hook), wired, count=2) as clients:
        first = asyncio.create_task(clients[0].post(HOOK, content=body, headers=headers))
        await work.started.wait()
        others = [await each.post(HOOK, content=body, headers=headers) for each in clients * 2]
        work.go.set()
        assert (await first).status_code == 200
        after = await clients[1].post(HOOK, content=body, headers=headers)
    assert {response.status_code for response in others} == {409}
    assert all(int(response.headers["retry-after"]) >= 1 for response in others)
    assert after.status_code == 200
    assert len(work.done) == 1


async def test_a_handler_that_takes_too_long_is_stopped_and_repeated(
    work: Work, wired: ServiceSettings
) -> None:
    work.go.clear()
    hook = Webhook(
        provider="github",
        secrets=lambda _: [SecretStr(SECRET)],
        handle=work.handle,
        timeout_s=0.05,
    )
    body = push()
    headers = github_headers(body, SECRET)
    async with replicas(service_with(work, hook), wired) as (http,):
        assert (await http.post(HOOK, content=body, headers=headers)).status_code == 504
        work.go.set()
        assert (await http.post(HOOK, content=body, headers=headers)).status_code == 200
    assert len(work.done) == 1


async def test_redis_away_is_a_503_so_that_the_sender_repeats(
    work: Work, hook: Webhook, keys_path: Path, unused_tcp_port: int
) -> None:
    settings = ServiceSettings(
        keys_file=keys_path, redis_url=SecretStr(f"redis://127.0.0.1:{unused_tcp_port}/0")
    )
    body = push()
    async with replicas(service_with(work, hook), settings) as (http,):
        response = await http.post(HOOK, content=body, headers=github_headers(body, SECRET))
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert work.done == []


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_cap_is_refused_before_it_is_read_whole(
    work: Work, wired: ServiceSettings, announced: bool
) -> None:
    hook = Webhook(
        provider="github",
        secrets=lambda _: [SecretStr(SECRET)],
        handle=work.handle,
        max_bytes=1000,
    )
    body = b"x" * 1001
    headers = github_headers(body, SECRET)

    async def stream() -> AsyncIterator[bytes]:
        yield body

    async with replicas(service_with(work, hook), wired) as (http,):
        response = await http.post(HOOK, content=body if announced else stream(), headers=headers)
    assert response.status_code == 413
    assert work.done == []


async def test_a_body_that_does_not_arrive_is_given_up_and_others_go_on(
    http: httpx.AsyncClient, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_common.mcp.webhooks._BODY_S", 0.05)
    body = push()
    headers = github_headers(body, SECRET)

    url = http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    lines = [f"{k}: {v}" for k, v in headers.items()]
    head = "\r\n".join([f"POST {HOOK} HTTP/1.1", "host: 127.0.0.1", "content-length: 99", *lines])
    writer.write(head.encode() + b"\r\n\r\n{")
    assert (await http.post(HOOK, content=body, headers=headers)).status_code == 200
    assert (await reader.readline()).startswith(b"HTTP/1.1 504")
    writer.close()
    await writer.wait_closed()
    assert len(work.done) == 1


async def test_more_deliveries_than_a_process_holds_are_shed(
    http: httpx.AsyncClient, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_common.mcp.webhooks._HELD", 1)
    work.go.clear()
    bodies = push(number=1), push(number=2)
    first = asyncio.create_task(
        http.post(HOOK, content=bodies[0], headers=github_headers(bodies[0], SECRET))
    )
    await work.started.wait()
    headers = github_headers(bodies[1], SECRET)
    shed = await http.post(HOOK, content=bodies[1], headers=headers)
    work.go.set()
    assert (shed.status_code, shed.headers["retry-after"]) == (503, "5")
    assert (await first).status_code == 200
    assert (await http.post(HOOK, content=bodies[1], headers=headers)).status_code == 200


async def test_redis_that_goes_away_during_the_work_does_not_undo_it(
    work: Work, hook: Webhook, keys_path: Path, tmp_path: Path
) -> None:
    work.go.clear()
    body = push()
    server = Valkey(
        home=tmp_path / "valkey", port=free_port(), password="test", log=tmp_path / "valkey.log"
    )
    child = await asyncio.to_thread(server.start)
    try:
        settings = ServiceSettings(keys_file=keys_path, redis_url=SecretStr(server.url))
        async with replicas(service_with(work, hook), settings) as (http,):
            call = asyncio.create_task(
                http.post(HOOK, content=body, headers=github_headers(body, SECRET))
            )
            await work.started.wait()
            await asyncio.to_thread(child.stop)
            work.go.set()
            assert (await call).status_code == 200
    finally:
        await asyncio.to_thread(child.stop)
    assert len(work.done) == 1


async def test_a_handlers_answer_is_sent_as_json(http: httpx.AsyncClient, work: Work) -> None:
    work.answer = {"challenge": "c"}
    body = push()
    response = await http.post(HOOK, content=body, headers=github_headers(body, SECRET))
    assert response.json() == {"challenge": "c"}


async def test_nothing_of_a_delivery_is_logged(http: httpx.AsyncClient) -> None:
    body = push(author="someone@private.example")
    headers = github_headers(body, SECRET)
    with capture_logs() as lines:
        await http.post(HOOK, content=body, headers=headers)
    assert [line for line in lines if line["event"] == "webhook_received"] == [
        {
            "event": "webhook_received",
            "provider": "github",
            "outcome": "done",
            "log_level": "info",
        }
    ]
    assert "private.example" not in str(lines)


async def test_every_delivery_is_in_the_audit_log_and_nothing_of_its_content(
    work: Work, hook: Webhook, wired: ServiceSettings, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    settings = wired.model_copy(update={"audit_sink": "file", "audit_file": path})
    body = push(author="someone@private.example")
    headers = github_headers(body, SECRET)
    async with replicas(service_with(work, hook), settings) as (http,):
        for sent in (headers, headers, {**headers, "x-hub-signature-256": "sha256=0"}):
            await http.post(HOOK, content=body, headers=sent)
    text = await asyncio.to_thread(path.read_text)
    events = [json.loads(line) for line in text.splitlines()]
    deliveries = [
        (event["target"], event["decision"], event["outcome"])
        for event in events
        if event.get("action") == "webhook"
    ]
    assert deliveries == [
        ("github", "allow", "started"),
        ("github", "allow", "ok"),
        ("github", "deny", "duplicate"),
        ("github", "deny", "unauthenticated"),
    ]
    assert "private.example" not in text


async def test_only_post_is_served(http: httpx.AsyncClient) -> None:
    assert (await http.get(HOOK)).status_code == 405


def test_without_a_secret_there_is_no_webhook(work: Work, settings: ServiceSettings) -> None:
    off = Webhook(provider="github", secrets=lambda _: [], handle=work.handle)
    app = create_app(service_with(work, off), settings)
    assert not any("/webhooks" in getattr(route, "path", "") for route in app.routes)


@pytest.mark.parametrize(
    ("provider", "secret", "message"),
    [
        ("github", SECRET, "FLEET_REDIS_URL is not set"),
        ("github", "short", "fewer than 16 characters"),
        ("github", "", "fewer than 16 characters"),
        ("hubspot", SECRET, "public URL"),
    ],
)
def test_a_webhook_that_could_not_be_served_safely_stops_the_start(
    work: Work, settings: ServiceSettings, provider: Any, secret: str, message: str
) -> None:
    wrong = Webhook(provider=provider, secrets=lambda _: [SecretStr(secret)], handle=work.handle)
    with pytest.raises(SettingsError, match=message):
        create_app(service_with(work, wrong), settings)
