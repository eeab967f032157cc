"""From a service to one ASGI app: doors for OAuth and for keys, health, metrics, in the order DESIGN gives.

Outermost first: CORS, request id, API-key header, Host and Origin guard; then by path either health and
metrics or a door: authentication, switches and limits, the admission gate, and FastMCP's transport behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread
from fastmcp import FastMCP
from fastmcp.server.auth import AuthProvider
from fastmcp.server.http import (
    HostOriginGuardMiddleware,
    StarletteWithLifespan,
    create_streamable_http_app,
)
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_common.admission import Admission
from fleet_common.auth import Principal
from fleet_common.auth.internal import InternalVerifier
from fleet_common.auth.keys import KeyFile
from fleet_common.auth.oauth import OAuth, OAuthDoor
from fleet_common.auth.usage import KeyUsage
from fleet_common.errors import Misdirected, PermissionDenied
from fleet_common.health import HealthReport
from fleet_common.mcp.envelope import Envelope
from fleet_common.mcp.gate import AdmissionGate, ApiKeyHeader, error_response
from fleet_common.mcp.headers import first_values
from fleet_common.mcp.identity import FleetVerifier, KeyVerifier
from fleet_common.mcp.requests import RequestIds
from fleet_common.mcp.resource import authenticated, metadata_route
from fleet_common.mcp.routes import OwnRoutes
from fleet_common.mcp.runtime import Runtime
from fleet_common.mcp.server import create_server
from fleet_common.mcp.service import DepsT, Service, SettingsT
from fleet_common.mcp.turnstile import Turnstile
from fleet_common.mcp.webhooks import open_webhooks
from fleet_common.settings import ServiceSettings, SettingsError

PROBES = ("/livez", "/readyz", "/startupz")
_MOST_PASSED = 256  # a client may invent loopback ports in `Host` without end
MCP_PATH, KEY_PATH = "/mcp", "/key/mcp"
# Any: Starlette's own type for what a lifespan yields is a union that callers cannot name.
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Door:
    """One path that leads to tools.

    Attributes:
        path: exact path, such as `/mcp`.
        verifier: tells who is calling; None lets everybody in.
        app: what is behind the door.
        oauth: what the door is to OAuth clients; None where only keys open it.
        asks: tells what a request asks for, at a door that does not speak MCP.
    """

    path: str
    verifier: AuthProvider | None
    app: ASGIApp
    oauth: OAuthDoor | None = None
    asks: Callable[[Scope], Envelope] | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What opens the doors of one process: fleet keys always, the rest where it is configured."""

    keys: KeyFile
    usage: KeyUsage
    internal: InternalVerifier | None
    oauth: OAuth | None


class LateDoors:
    """Doors that a process opens and closes while it runs; `assemble` says in which app."""

    def __init__(self) -> None:
        self._open: dict[str, list[Route]] = {}
        self._routes: list[BaseRoute] = []
        self._routes_of: Callable[[Door], list[Route]] = lambda _door: []

    def attach(self, app: Starlette, routes_of: Callable[[Door], list[Route]]) -> None:
        """Let doors into `app`, each as the routes that `routes_of` makes of it."""
        self._routes, self._routes_of = app.router.routes, routes_of

    def open(self, group: str, doors: Sequence[Door], routes: Sequence[Route] = ()) -> None:
        """Open `doors`, and `routes` that are none, after those of the app; the name of the group closes them."""
        own = (route for door in doors for route in self._routes_of(door))
        self._open[group] = [*own, *routes]
        self._routes.extend(self._open[group])

    def close(self, group: str) -> None:
        """Close the doors of a group; requests that are behind them already end as they would."""
        for route in self._open.pop(group):
            self._routes.remove(route)


def create_app(
    service: Service[SettingsT, DepsT], settings: SettingsT, *, runtime: Runtime | None = None
) -> Starlette:
    """Return the ASGI app that serves `service`; callers need a fleet key or an internal token.

    Raises:
        SettingsError: no key file is configured, so nobody could be let in, or a webhook could not be served.
    """
    run = runtime or Runtime.create(service.name, service.version, settings)
    hooks = open_webhooks(service, settings, run)
    own = OwnRoutes(service.routes, run)
    kept = own.keeping(hooks.keeping(service) if hooks else service)
    transport = mcp_transport(create_server(kept, settings, runtime=run))
    credentials = open_credentials(settings, run)
    doors = door_pair(AtPath(transport, MCP_PATH), credentials, service=service.name)
    return assemble(
        doors,
        settings,
        run,
        lifespan=transport.router.lifespan_context,
        routes=[*([hooks.route] if hooks else []), *own.routes],
    )


def door_pair(
    app: ASGIApp, credentials: Credentials, *, service: str, prefix: str = ""
) -> list[Door]:
    """Return the two doors to `app`: `<prefix>/mcp` for every credential, `<prefix>/key/mcp` for fleet keys only.

    Args:
        app: what is behind both.
        credentials: what opens them.
        service: whose scopes count behind them; "gateway" for all.
        prefix: path before theirs, such as `/data`.
    """
    keys, usage = credentials.keys, credentials.usage
    path = f"{prefix}{MCP_PATH}"
    oauth = credentials.oauth.door(path, service) if credentials.oauth else None
    return [
        Door(path, FleetVerifier(keys, usage, credentials.internal, oauth), app, oauth),
        Door(f"{prefix}{KEY_PATH}", KeyVerifier(keys, usage), app),
    ]


def create_open_app(
    service: Service[SettingsT, DepsT], settings: SettingsT, principal: Principal
) -> Starlette:
    """Return the same app without authentication, every caller being `principal`.

    Only for suites that cannot send a header, such as the protocol's conformance tests.
    """
    run = Runtime.create(service.name, service.version, settings)
    transport = mcp_transport(
        create_server(service, settings, runtime=run, local_principal=principal)
    )
    doors = [Door(MCP_PATH, None, transport)]
    return assemble(doors, settings, run, lifespan=transport.router.lifespan_context)


def create_worker_app(
    service: Service[SettingsT, DepsT], settings: SettingsT, *, runtime: Runtime | None = None
) -> Starlette:
    """Return the app of a process that only works on the service's tasks: health, metrics and no door.

    Raises:
        SettingsError: there is nothing to work on.
    """
    if settings.redis_url is None:
        raise SettingsError(f"{settings.prefix()}REDIS_URL is not set: tasks wait in Redis")
    run = runtime or Runtime.create(service.name, service.version, settings)
    working = settings.model_copy(update={"tasks_worker": True})
    server = create_server(service, working, runtime=run)
    if not server._extensions:  # noqa: SLF001 - tasks are the only one
        raise SettingsError(f"{service.name} has no tool that may run as a task")
    app = assemble([], settings, run, lifespan=mcp_transport(server).router.lifespan_context)
    # No door leads to a slot here: autoscaling counts those of servers.
    run.metrics.admission_limit.set(0)
    return app


def open_credentials(settings: ServiceSettings, runtime: Runtime) -> Credentials:
    """Return what opens the doors, as `settings` say.

    Raises:
        SettingsError: there is no key file, or the public key cannot be read.
    """
    prefix = settings.prefix()
    if settings.keys_file is None:
        raise SettingsError(f"{prefix}KEYS_FILE is not set: nobody could be let in")
    internal = None
    if settings.internal_public_key_file is not None:
        pem = read_key(settings.internal_public_key_file, f"{prefix}INTERNAL_PUBLIC_KEY_FILE")
        internal = InternalVerifier(pem, audience=runtime.service)
    return Credentials(KeyFile(settings.keys_file), runtime.key_usage, internal, runtime.oauth)


def read_key(path: Path, variable: str) -> bytes:
    """Return the bytes of a key file.

    Raises:
        SettingsError: it cannot be read; the text names the variable and not the content.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"{variable}: cannot read {path} ({exc.strerror})") from None


def mcp_transport(server: FastMCP[Any]) -> StarletteWithLifespan:
    """Return FastMCP's stateless Streamable HTTP transport at `/mcp`, without authentication of its own.

    Streaming responses stay on: with plain JSON a client's disconnect would no longer cancel the tool.
    """
    return create_streamable_http_app(
        server=server, streamable_http_path=MCP_PATH, stateless_http=True, json_response=False
    )


def assemble(
    doors: Sequence[Door],
    settings: ServiceSettings,
    runtime: Runtime,
    *,
    lifespan: Lifespan,
    is_nested: Callable[[Scope], bool] = lambda _scope: False,
    routes: Sequence[BaseRoute] = (),
    late: LateDoors | None = None,
) -> Starlette:
    """Put the standard layers round `doors`.

    Args:
        doors: the paths that lead to tools; all share one admission.
        settings: hosts, origins, slots and queue.
        runtime: where health and metrics live.
        lifespan: opened before the first request and closed after the last.
        is_nested: tells whether a request belongs to a call that holds a slot already.
        routes: what else the app serves, inside the outer layers and with no authentication of ours.
        late: where doors that open later come from; they share the admission, too.
    """
    admission = Admission(
        slots=settings.slots,
        queue=settings.queue,
        wait_s=settings.queue_wait_s,
        metrics=runtime.metrics,
    )

    def guarded(door: Door) -> Route:
        # A Route whose endpoint is an ASGI app hands the request over whole, for every method.
        app = _guarded(door, admission, settings, runtime, is_nested)
        return Route(door.path, endpoint=app)

    metadata = [metadata_route(door.oauth) for door in doors if door.oauth is not None]
    opened = [*map(guarded, doors)]
    app = _App(
        [*opened, *_operations(runtime), *metadata, *routes],
        layers=[*_outer_layers(settings, runtime), Middleware(_ShortCut, routes=opened)],
        lifespan=lifespan,
    )
    if late is not None:
        late.attach(
            app,
            lambda door: [guarded(door), *([metadata_route(door.oauth)] if door.oauth else [])],
        )
    return app


class _App(Starlette):
    """Starlette with layers outside its own, so that what is led to a door pays for none of those."""

    def __init__(
        self, routes: Sequence[BaseRoute], *, layers: Sequence[Middleware], lifespan: Lifespan
    ) -> None:
        super().__init__(routes=routes, lifespan=lifespan)
        self._layers = layers

    def build_middleware_stack(self) -> ASGIApp:
        """Return all layers, the outermost first."""
        app = super().build_middleware_stack()
        for layer, args, kwargs in reversed(self._layers):
            app = layer(app, *args, **kwargs)
        return app


class _ShortCut:
    """Leads requests whose path is a door's own straight there.

    Nearly all requests are for a door, and Starlette's way through its table of routes costs each 20 µs.
    """

    def __init__(self, app: ASGIApp, *, routes: Sequence[Route]) -> None:
        self._app = app
        self._routes = {route.path: route for route in routes}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on, to its door if that is known."""
        if scope["type"] == "http" and (route := self._routes.get(scope["path"])) is not None:
            scope["route"] = route
            return route.app(scope, receive, send)
        return self._app(scope, receive, send)


class AtPath:
    """Serves an app under another path than the one it knows."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on with the path the app knows."""
        moved = {**scope, "path": self._path, "raw_path": self._path.encode()}
        return self._app(moved, receive, send)


def _guarded(
    door: Door,
    admission: Admission,
    settings: ServiceSettings,
    runtime: Runtime,
    is_nested: Callable[[Scope], bool],
) -> ASGIApp:
    app: ASGIApp = AdmissionGate(
        door.app,
        admission=admission,
        audit=runtime.audit,
        default_timeout_s=settings.default_timeout_s,
        is_nested=is_nested,
    )
    if door.verifier is None:
        return app
    app = Turnstile(
        app,
        switches=runtime.switches,
        limits=runtime.limits,
        audit=runtime.audit,
        asks=door.asks,
    )
    return authenticated(app, door.verifier, door.oauth)


def _outer_layers(settings: ServiceSettings, runtime: Runtime) -> list[Middleware]:
    origins = list(settings.allowed_origins)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=[
            "www-authenticate",
            "x-request-id",
            "x-trace-id",
            "retry-after",
            "ratelimit",
        ],
    )
    own = urlsplit(settings.public_url) if settings.public_url else None
    guard = Middleware(
        _Guard,
        allowed_hosts=[*settings.allowed_hosts, *([own.netloc] if own else [])],
        # Its own origin, which it cannot know by itself where TLS ends before it: pages post forms from there.
        allowed_origins=[*origins, *([f"{own.scheme}://{own.netloc}"] if own else [])],
    )
    ids = Middleware(RequestIds, tracing=runtime.tracing)
    return [*([cors] if origins else []), ids, Middleware(ApiKeyHeader), guard]


class _Guard:
    """FastMCP's Host and Origin check, for everything but the probes: a kubelet may call those by any name.

    What passed once passes again unasked: the check costs more than the rest of these layers together.
    """

    def __init__(
        self, app: ASGIApp, *, allowed_hosts: list[str], allowed_origins: list[str]
    ) -> None:
        self._app = app
        self._passed: set[Hashable] = set()
        self._check = HostOriginGuardMiddleware(
            _pass, allowed_hosts=allowed_hosts, allowed_origins=allowed_origins, mode="strict"
        )

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Check what must be checked and pass the request on."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            return self._app(scope, receive, send)
        facts = _origin_facts(scope)
        if facts in self._passed:
            return self._app(scope, receive, send)
        return self._checked(facts, scope, receive, send)

    async def _checked(self, facts: Hashable, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal := await self._refusal(scope, receive):
            await refusal(scope, receive, send)
            return
        if len(self._passed) < _MOST_PASSED:
            self._passed.add(facts)
        await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope, receive: Receive) -> Response | None:
        told: list[Message] = []

        async def note(message: Message) -> None:
            told.append(message)

        await self._check(scope, receive, note)
        if not told:
            return None
        if told[0]["status"] == PermissionDenied.http_status:
            return error_response(PermissionDenied("pages of this origin may not call"))
        return error_response(Misdirected("this host is served elsewhere"))


async def _pass(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Stand behind FastMCP's check: what gets here has passed."""


def _origin_facts(scope: Scope) -> Hashable:
    """Return everything that FastMCP's check looks at."""
    named = first_values(scope)
    server = tuple(scope.get("server") or ())
    return named.get(b"host"), named.get(b"origin"), scope["scheme"], server


def _operations(runtime: Runtime) -> list[Route]:
    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_: Request) -> Response:
        return _report(await runtime.health.report())

    async def startupz(_: Request) -> Response:
        return _report(await runtime.health.startup())

    async def metrics(_: Request) -> Response:
        # In a thread: the process collector reads /proc.
        body, content_type = await anyio.to_thread.run_sync(runtime.metrics.render)
        return Response(body, media_type=content_type)

    return [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/startupz", startupz),
        Route("/metrics", metrics),
    ]


def _report(report: HealthReport) -> JSONResponse:
    return JSONResponse(report.to_dict(), status_code=200 if report.ok else 503)
