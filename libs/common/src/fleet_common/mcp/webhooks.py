"""`POST /webhooks/{provider}`: signature, claim, the owner's handler, commit.

No credential of ours is asked for, so everything before the signature is bounded: the body's size, the time it
may take to arrive, and how many deliveries are held at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet_common.deadline import deadline
from fleet_common.errors import (
    DeadlineExceeded,
    FleetError,
    InternalError,
    InvalidInput,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    Unavailable,
)
from fleet_common.mcp.recording import Entry
from fleet_common.mcp.routes import refusal
from fleet_common.mcp.runtime import Runtime
from fleet_common.mcp.service import DepsT, Service, SettingsT, keeping
from fleet_common.redis import REDIS_AWAY
from fleet_common.settings import ServiceSettings, SettingsError
from fleet_common.webhooks import PROVIDERS, Claims, Delivery, SignedRequest, Webhook

log = structlog.get_logger()

PATH = "/webhooks/{provider}"
_HELD = 32  # deliveries in memory at once
_BODY_S = 10.0
_SETTLE_S = 2.0
_SECRET_CHARS = 16
_CLAIM_MARGIN_S = 5.0  # a claim outlives the work by this, so that nobody else begins it meanwhile
_UNKNOWN = "_unknown"


@dataclass(frozen=True, slots=True)
class _Open:
    """A webhook whose settings are read."""

    declared: Webhook
    secrets: tuple[bytes, ...]
    public_url: str | None


class WebhookDoor:
    """The webhooks of one service; `keeping` gives their handlers what the service's tools get."""

    def __init__(self, hooks: Mapping[str, _Open], claims: Claims, runtime: Runtime) -> None:
        self._hooks = hooks
        self._claims = claims
        self._deps: Any = None  # of the service's own type
        self._audit = runtime.audit
        self._held = 0
        self._deliveries = runtime.metrics.counter(
            "mcp_webhook_deliveries_total",
            "Deliveries of webhooks: done, duplicate, or the error's code.",
            "provider",
            "outcome",
        )

    @property
    def route(self) -> Route:
        """Return the route that serves them."""
        return Route(PATH, self._answer, methods=["POST"])

    def keeping(self, service: Service[SettingsT, DepsT]) -> Service[SettingsT, DepsT]:
        """Return the service, with what `open_deps` yields kept for the handlers while it is open."""

        def keep(deps: DepsT) -> None:
            self._deps = deps

        return keeping(service, keep)

    async def _answer(self, request: Request) -> Response:
        provider = request.path_params["provider"]
        hook = self._hooks.get(provider)
        outcome = "cancelled"
        try:
            if hook is None:
                raise NotFound("webhook", provider)
            outcome, content = await self._take(hook, request)
            return JSONResponse(content) if content is not None else Response(status_code=200)
        except FleetError as exc:
            outcome = exc.code
            return refusal(exc)
        finally:
            known = provider if hook is not None else _UNKNOWN
            self._deliveries.labels(provider=known, outcome=outcome).inc()
            log.info("webhook_received", provider=known, outcome=outcome)

    async def _take(self, hook: _Open, request: Request) -> tuple[str, Mapping[str, Any] | None]:
        if self._held >= _HELD:
            raise Overloaded("too many deliveries at once", retry_after_s=5)
        self._held += 1
        entry = Entry(self._audit, "webhook", hook.declared.provider, None)
        try:
            try:
                delivery = await _believed(hook, request)
            except FleetError as exc:
                code = exc.code
                self._audit.tally(
                    ("webhook", hook.declared.provider, code), lambda: entry.refusal(code)
                )
                raise
            return await self._recorded(hook.declared, delivery, entry)
        finally:
            self._held -= 1

    async def _recorded(
        self, hook: Webhook, delivery: Delivery, entry: Entry
    ) -> tuple[str, Mapping[str, Any] | None]:
        entry.writes = True  # whatever the handler does with it
        entry.decided(allowed=True, rule="signature")
        outcome = "cancelled"
        try:
            outcome, content = await self._once(hook, delivery, entry)
        except FleetError as exc:
            outcome = exc.code
            raise
        finally:
            entry.close(outcome)
        return outcome, content

    async def _once(
        self, hook: Webhook, delivery: Delivery, entry: Entry
    ) -> tuple[str, Mapping[str, Any] | None]:
        try:
            claim = await self._claims.claim(delivery, hook.timeout_s + _CLAIM_MARGIN_S)
        except REDIS_AWAY as exc:
            raise Unavailable("Redis") from exc
        if claim is None:
            return "duplicate", None
        try:
            await entry.begin()
            content = await self._handled(hook, delivery)
        except BaseException:
            # Cancelled work too: the process is going away and another one gets the repeat.
            await self._settled(self._claims.release(claim))
            raise
        await self._settled(self._claims.commit(claim))
        if unrecorded := await entry.answered("ok"):
            raise unrecorded
        return "done", content

    async def _handled(self, hook: Webhook, delivery: Delivery) -> Mapping[str, Any] | None:
        scope = asyncio.timeout(hook.timeout_s)
        try:
            with deadline(hook.timeout_s):
                async with scope:
                    return await hook.handle(delivery, self._deps)
        except FleetError:
            raise
        except Exception as exc:  # the edge: the sender learns nothing but that it should repeat
            if isinstance(exc, TimeoutError) and scope.expired():
                raise DeadlineExceeded("the delivery took too long") from exc
            log.exception("webhook_failed", provider=hook.provider)
            raise InternalError("something went wrong here") from exc

    @staticmethod
    async def _settled(settle: Awaitable[None]) -> None:
        """Commit or release, also when this work was cancelled; a claim that is left expires by itself."""
        with anyio.move_on_after(_SETTLE_S, shield=True):
            try:
                await settle
            except REDIS_AWAY:
                log.warning("webhook_claim_left", exc_info=True)


def open_webhooks(
    service: Service[SettingsT, DepsT], settings: SettingsT, runtime: Runtime
) -> WebhookDoor | None:
    """Return the door of the webhooks that `settings` have secrets for; None when there are none.

    Raises:
        SettingsError: a webhook could not be served safely; the text says why.
    """
    hooks: dict[str, _Open] = {
        hook.provider: opened
        for hook in service.webhooks
        if (opened := _opened(hook, settings)).secrets
    }
    if not hooks:
        return None
    if runtime.redis is None:
        raise SettingsError(
            f"{settings.prefix()}REDIS_URL is not set: webhooks need it to handle each delivery once"
        )
    return WebhookDoor(hooks, Claims(runtime.redis, service.name), runtime)


def _opened(hook: Webhook, settings: ServiceSettings) -> _Open:
    secrets = tuple(secret.get_secret_value().encode() for secret in hook.secrets(settings))
    if any(len(secret) < _SECRET_CHARS for secret in secrets):
        raise SettingsError(
            f"a webhook secret of {hook.provider} has fewer than {_SECRET_CHARS} characters"
        )
    public_url = hook.public_url(settings)
    if secrets and hook.provider == "hubspot" and not public_url:
        raise SettingsError("the webhook of hubspot needs the public URL that HubSpot calls")
    return _Open(hook, secrets, public_url)


async def _believed(hook: _Open, request: Request) -> Delivery:
    """Return the delivery once its signature is right."""
    signed = await _read(hook, request)
    provider = hook.declared.provider
    delivery_id = PROVIDERS[provider].verify(signed, hook.secrets, time.time())
    return Delivery(provider, delivery_id, signed.headers, signed.body)


async def _read(hook: _Open, request: Request) -> SignedRequest:
    """Return the request with its whole body.

    Raises:
        PayloadTooLarge: the body is longer than it may be; no more of it is read.
        DeadlineExceeded: the body did not arrive in time.
        InvalidInput: it ended early.
    """
    url = hook.public_url or str(request.url.replace(query=""))
    if request.url.query:
        url = f"{url}?{request.url.query}"
    try:
        async with asyncio.timeout(_BODY_S):
            body = await _body(request, hook.declared.max_bytes)
    except TimeoutError:
        raise DeadlineExceeded("the body did not arrive in time") from None
    except ClientDisconnect:
        raise InvalidInput("the body ended early") from None
    return SignedRequest(request.method, url, dict(request.headers), body)


async def _body(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "0")
    chunks, size = [], int(announced) if announced.isdecimal() and len(announced) < 16 else 0
    if size > max_bytes:
        raise PayloadTooLarge(f"the body is over {max_bytes} bytes")
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise PayloadTooLarge(f"the body is over {max_bytes} bytes")
        chunks.append(chunk)
    return b"".join(chunks)
