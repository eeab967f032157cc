"""Paths that a service answers besides its doors: what signed links lead to.

No credential of ours is asked for: the handler itself knows what to believe, such as a signature in the query.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet_common.errors import FleetError, InternalError, Overloaded
from fleet_common.logs import with_trace_id
from fleet_common.mcp.recording import Entry
from fleet_common.mcp.runtime import Runtime
from fleet_common.mcp.service import DepsT, HttpRoute, Service, SettingsT, keeping

log = structlog.get_logger()

_AT_ONCE = 64  # per path; whoever answers here is not behind the admission gate
_BUSY_S = 2.0


class OwnRoutes:
    """The paths of one service; `keeping` gives their handlers what the service's tools get."""

    def __init__(self, declared: Sequence[HttpRoute], runtime: Runtime) -> None:
        self._paths = [_OwnPath(each, runtime, self) for each in declared]
        self.deps: Any = None  # of the service's own type

    @property
    def routes(self) -> list[Route]:
        """Return what serves them."""
        return [Route(p.path, p.answer, methods=list(p.declared.methods)) for p in self._paths]

    def keeping(self, service: Service[SettingsT, DepsT]) -> Service[SettingsT, DepsT]:
        """Return the service, with what `open_deps` yields kept for the handlers while it is open."""

        def keep(deps: DepsT) -> None:
            self.deps = deps

        return keeping(service, keep)


class _OwnPath:
    """One path: bounded, recorded, and with errors that say their code and nothing else."""

    def __init__(self, declared: HttpRoute, runtime: Runtime, own: OwnRoutes) -> None:
        self.declared = declared
        self.path = declared.path
        self._audit = runtime.audit
        self._own = own
        self._running = 0

    async def answer(self, request: Request) -> Response:
        """Answer a request."""
        target = self.path if self.declared.is_secret else request.url.path
        entry = Entry(self._audit, "request", target, None)
        try:
            response = await self._bounded(request, entry)
        except FleetError as exc:
            code = exc.code
            self._audit.tally(
                ("request", self.path, code),
                lambda: Entry(self._audit, "request", self.path, None).refusal(code),
            )
            return refusal(exc)
        entry.close("ok" if response.status_code < 400 else str(response.status_code))
        return response

    async def _bounded(self, request: Request, entry: Entry) -> Response:
        if self._running >= _AT_ONCE:
            raise Overloaded("too many requests at once", retry_after_s=_BUSY_S)
        self._running += 1
        try:
            entry.decided(allowed=True, rule="signature")
            await entry.begin()
            return await self._handled(request)
        finally:
            self._running -= 1

    async def _handled(self, request: Request) -> Response:
        handle: Callable[[Request, Any], Awaitable[Response]] = self.declared.handle
        try:
            return await handle(request, self._own.deps)
        except FleetError:
            raise
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as exc:  # the edge: whoever asks learns nothing but that it failed
            log.exception("route_failed", path=self.path)
            raise InternalError("something went wrong here") from exc


def refusal(error: FleetError) -> JSONResponse:
    """Return the code and nothing else: whoever is not known to us learns nothing from it."""
    facts = with_trace_id({"code": error.code, "retryable": error.retryable})
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after_s)))
    return JSONResponse(facts, status_code=error.http_status, headers=headers)
