"""`python -m fleet_<service> VERB`: serve, worker, stdio, config, and the verbs the service adds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Sequence
from dataclasses import asdict, replace
from types import FrameType
from typing import Any, Protocol

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_common.audit import create_audit
from fleet_common.logs import configure
from fleet_common.mcp.app import create_app, create_worker_app, open_credentials
from fleet_common.mcp.protocol import Http1
from fleet_common.mcp.requests import StdioRequests
from fleet_common.mcp.runtime import Runtime
from fleet_common.mcp.server import create_server
from fleet_common.mcp.service import DepsT, Service, SettingsT
from fleet_common.settings import ServiceSettings, SettingsError, describe

log = structlog.get_logger()

# FastMCP prints a banner and asks a package index for updates unless told otherwise.
os.environ.setdefault("FASTMCP_SHOW_SERVER_BANNER", "false")
os.environ.setdefault("FASTMCP_CHECK_FOR_UPDATES", "off")


class AppFactory(Protocol):
    """Builds the ASGI app of a service; `create_app` is the usual one."""

    def __call__(
        self, service: Service[Any, Any], settings: Any, *, runtime: Runtime | None = None
    ) -> Starlette:
        """Return the app."""
        ...


def run(
    service: Service[SettingsT, DepsT],
    argv: Sequence[str] | None = None,
    *,
    app_factory: AppFactory = create_app,
) -> int:
    """Run one verb and return the exit status.

    A wrong setting or verb is one sentence on stderr and status 2.
    """
    verb, *rest = [*(sys.argv[1:] if argv is None else argv)] or [""]
    verbs = ["serve", "worker", "stdio", "config", *service.commands]
    if verb not in verbs:
        print(f"usage: python -m fleet_{service.name} {{{'|'.join(verbs)}}}", file=sys.stderr)  # noqa: T201
        return 0 if verb in {"-h", "--help"} else 2
    try:
        settings = service.settings.read()
        configure(settings.log_level, settings.log_format, service=service.name)
        if verb in service.commands:
            return service.commands[verb](settings, rest)
        if verb in {"serve", "worker"}:
            factory = app_factory if verb == "serve" else create_worker_app
            runtime = Runtime.create(service.name, service.version, settings)
            return serve_app(factory(service, settings, runtime=runtime), settings, runtime)
        return _stdio(service, settings) if verb == "stdio" else _config(service, settings)
    except SettingsError as exc:
        print(f"fleet-{service.name}: {exc}", file=sys.stderr)  # noqa: T201
        return 2


class Server(uvicorn.Server):
    """uvicorn that tells readiness first that it is going away."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        super().__init__(config)
        self._runtime = runtime

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Flip readiness, then stop accepting and let calls in flight finish."""
        self._runtime.health.draining = True
        super().handle_exit(sig, frame)


def listen(settings: ServiceSettings) -> socket.socket:
    """Return a listening socket.

    Raises:
        SettingsError: the address is taken or not ours; the text says so.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host, settings.port))
    except OSError as exc:
        sock.close()
        raise SettingsError(
            f"cannot listen on {settings.host}:{settings.port} ({exc.strerror})"
        ) from None
    return sock


def serve_app(app: Any, settings: ServiceSettings, runtime: Runtime) -> int:
    """Serve an ASGI app until SIGTERM or SIGINT; calls in flight get `shutdown_grace_s` to finish."""
    start = _Start(app)
    config = uvicorn.Config(
        start,
        interface="asgi3",  # not to be guessed from whether `__call__` is a coroutine function
        http=Http1,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.shutdown_grace_s),
    )
    with listen(settings) as sock:
        host, port = sock.getsockname()[:2]
        log.info("service_started", host=host, port=port)
        server = Server(config, runtime)
        for number in (signal.SIGTERM, signal.SIGINT):
            # uvicorn raises the signal again after its orderly end: that end is a success.
            signal.signal(number, lambda *_: None)
        try:
            server.run(sockets=[sock])
        except SystemExit:  # how uvicorn ends when the lifespan did not start
            if start.refusal is None:
                raise
            raise start.refusal from None
    log.info("service_stopped")
    return 0 if server.started else 1


class _Start:
    """Keeps the sentence of a `SettingsError` that a service raises while it opens its dependencies.

    uvicorn would print it as a traceback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.refusal: SettingsError | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on, or watch the start."""
        if scope["type"] != "lifespan":
            return self._app(scope, receive, send)
        return self._watched(scope, receive, send)

    async def _watched(self, scope: Scope, receive: Receive, send: Send) -> None:
        failure: Message | None = None

        async def hold_failure(message: Message) -> None:
            nonlocal failure
            if message["type"] == "lifespan.startup.failed":
                failure = message  # its text is a traceback; whether that is wanted shows below
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_failure)
        except BaseException as exc:
            self.refusal = _refusal_in(exc)
            if failure is not None:
                await send({**failure, "message": ""} if self.refusal else failure)
            if self.refusal is None:
                raise


def _refusal_in(exc: BaseException) -> SettingsError | None:
    if isinstance(exc, BaseExceptionGroup):
        return next(filter(None, map(_refusal_in, exc.exceptions)), None)
    return exc if isinstance(exc, SettingsError) else None


def _stdio(service: Service[SettingsT, DepsT], settings: SettingsT) -> int:
    runtime = replace(
        Runtime.create(service.name, service.version, settings),
        audit=create_audit(service.name, settings, is_stdio=True),
    )
    keys = open_credentials(settings, runtime).keys
    variable = f"{settings.prefix()}STDIO_KEY"
    if settings.stdio_key is None:
        raise SettingsError(f"{variable} is not set: stdio needs a fleet key to know its caller")
    record = keys.lookup(settings.stdio_key.get_secret_value())
    if record is None:
        raise SettingsError(f"{variable} is not a valid fleet key")
    server = create_server(
        service,
        settings,
        runtime=runtime,
        local_principal=record.principal(),
        offers_tasks=False,  # this process ends with its only client
    )
    server.middleware.insert(0, StdioRequests(runtime.tracing))
    asyncio.run(server.run_stdio_async(show_banner=False))
    return 0


def _config(service: Service[SettingsT, DepsT], settings: SettingsT) -> int:
    rows = [asdict(row) for row in describe(settings)]
    print(json.dumps({"service": service.name, "settings": rows}, indent=2))  # noqa: T201
    return 0
