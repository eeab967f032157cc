"""What a service is: a name, settings, dependencies and features. Everything else is the same for all."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast

from fastmcp import Context
from fastmcp.dependencies import CurrentContext, Depends
from fastmcp.server.completions import CompletionReference
from mcp_types import CompletionArgument, CompletionContext
from starlette.requests import Request
from starlette.responses import Response

from fleet_common.health import Check
from fleet_common.mcp.runtime import Runtime
from fleet_common.policy import Grant
from fleet_common.settings import ServiceSettings
from fleet_common.webhooks import Webhook

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)
DepsT = TypeVar("DepsT")


@dataclass(frozen=True, slots=True)
class Completing(Generic[DepsT]):
    """An argument of a prompt or of a resource's address that somebody is typing.

    Attributes:
        deps: what `open_deps` yielded.
        grant: who types, and how far it reaches.
        ref: the prompt or the template.
        argument: its name, and what is there so far.
        context: arguments that are there already.
    """

    deps: DepsT
    grant: Grant
    ref: CompletionReference
    argument: CompletionArgument
    context: CompletionContext | None = None


Completer = Callable[[Completing[DepsT]], Awaitable[Sequence[str]]]
"""Returns what an argument can be, at most 100 values."""

Command = Callable[[SettingsT, list[str]], int]
"""An extra verb of `python -m fleet_<service>`: takes the settings and the remaining words, returns the exit status."""


def no_checks(_deps: Any) -> tuple[Check, ...]:
    """Return no readiness checks: ready as soon as the dependencies are open."""
    return ()


@dataclass(frozen=True, kw_only=True)
class HttpRoute:
    """A path that a service answers itself, without a credential of ours: a signed link.

    Attributes:
        path: as Starlette writes it, such as `/exports/{job}`.
        handle: answers a request; gets what `open_deps` yields as well.
        methods: of HTTP.
        is_secret: the path itself opens something, so the audit keeps its pattern only.
    """

    path: str
    # Any: each service's own dependencies.
    handle: Callable[[Request, Any], Awaitable[Response]]
    methods: tuple[str, ...] = ("GET",)
    is_secret: bool = False


@dataclass(frozen=True, kw_only=True)
class Service(Generic[SettingsT, DepsT]):
    """One MCP server of the fleet, declared.

    Attributes:
        name: the domain, such as `data`; prefix of its scopes and audience of its internal tokens.
        version: the package's version, shown to clients.
        instructions: what a model should know first; some clients read 512 characters.
        settings: the class of its settings.
        open_deps: opens pools and clients for the life of the process; tools get what it yields.
        tools: functions made with `fastmcp.tools.tool`.
        resources: functions made with `fastmcp.resources.resource`.
        prompts: functions made with `fastmcp.prompts.prompt`.
        complete: suggests values for arguments of prompts and resource templates.
        checks: what readiness asks, each with its own deadline.
        webhooks: deliveries that this service owns, at `POST /webhooks/{provider}`.
        routes: paths that this service answers besides `/mcp`, for signed links.
        commands: extra verbs of `python -m fleet_<name>`.
    """

    name: str
    version: str
    instructions: str
    settings: type[SettingsT]
    open_deps: Callable[[SettingsT, Runtime], AbstractAsyncContextManager[DepsT]]
    tools: tuple[Callable[..., Any], ...] = ()
    resources: tuple[Callable[..., Any], ...] = ()
    prompts: tuple[Callable[..., Any], ...] = ()
    complete: Completer[DepsT] | None = None
    checks: Callable[[DepsT], tuple[Check, ...]] = no_checks
    webhooks: tuple[Webhook, ...] = ()
    routes: tuple[HttpRoute, ...] = ()
    commands: Mapping[str, Command[SettingsT]] = field(default_factory=dict)


def keeping(
    service: Service[SettingsT, DepsT], keep: Callable[[DepsT], None]
) -> Service[SettingsT, DepsT]:
    """Return the service, with what `open_deps` yields also given to `keep`, for requests that are no MCP."""

    @asynccontextmanager
    async def opened(settings: SettingsT, runtime: Runtime) -> AsyncGenerator[DepsT]:
        async with service.open_deps(settings, runtime) as deps:
            keep(deps)
            yield deps

    return replace(service, open_deps=opened)


def _deps(ctx: Context = CurrentContext()) -> Any:
    return ctx.lifespan_context["deps"]


def CurrentDeps() -> Any:  # noqa: N802 - a dependency reads like FastMCP's CurrentContext()
    """Return the dependency that gives a getter what `open_deps` yielded."""
    # Any: Depends returns a marker that FastMCP replaces by the value before the function runs.
    return cast(Any, Depends(_deps))
