"""pytest plugin: unit tests fail when they block the event loop.

Registered in the root conftest.py. A test that must block on purpose is marked `blocking`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from blockbuster import BlockBuster
from fastmcp.tools.function_parsing import ParsedFunction

from fleet_common.logs import configure

# Only our own code is watched: what a client library does while a test connects is not under test.
_WATCHED = ["fleet_common", "fleet_gateway", "fleet_data", "fleet_devops", "fleet_aiml"]
_REAL_FLEET = {"e2e", "chaos", "load", "blocking"}


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "blocking: may block the event loop")


@pytest.fixture(scope="session", autouse=True)
def _read_once() -> Iterator[None]:
    """Keep what is the same for all servers and clients of a session; without it a third of all time goes there."""
    certificates = functools.cache(httpx.create_ssl_context)  # 140 of them, for each client
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", certificates)
        patch.setattr(ParsedFunction, "from_function", staticmethod(_parsed()))
        yield


def _parsed() -> Callable[..., ParsedFunction]:
    once = functools.cache(ParsedFunction.from_function)

    def parsed(fn: Callable[..., Any], **options: bool) -> ParsedFunction:
        known = once(fn, **options)
        # A server may change the schemas of its tools.
        takes, returns = copy.deepcopy((known.input_schema, known.output_schema))
        return dataclasses.replace(known, input_schema=takes, output_schema=returns)

    return parsed


@pytest.fixture(autouse=True)
def _logs_as_in_production() -> None:
    configure("INFO", "json")


@pytest.fixture(scope="session")
def _guard() -> Iterator[BlockBuster]:
    guard = BlockBuster(scanned_modules=_WATCHED)
    for name in ("os.stat", "io.TextIOWrapper.read", "io.BufferedReader.read"):
        guard.functions[name].can_block_in("linecache.py", {"checkcache", "updatecache"})
    for function in guard.functions.values():
        # redis-py looks up its own version for each new connection; docket's cannot be told not to.
        function.can_block_in("redis/driver_info.py", {"__post_init__"})
        # FastMCP looks up docket's version when a tool first reports progress.
        function.can_block_in("fastmcp/server/dependencies.py", {"is_docket_available"})
        # The tracer of coverage shares a lock with other threads, for as long as it takes to add a file to a list.
        function.can_block_in("coverage/collector.py", {"lock_data"})
    yield guard
    guard.deactivate()


@pytest.fixture(autouse=True)
def _loop_stays_free(request: pytest.FixtureRequest, _guard: BlockBuster) -> None:
    # Both do nothing when it is so already: to patch all functions anew would cost each test milliseconds.
    if _REAL_FLEET & {mark.name for mark in request.node.iter_markers()}:
        _guard.deactivate()
    else:
        _guard.activate()
