"""pytest plugin: unit tests fail when they block the event loop.

Registered in the root conftest.py. A test that must block on purpose is marked `blocking`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import httpx
import pytest
from blockbuster import BlockBuster

from fleet_common.logs import configure

# Only our own code is watched: what a client library does while a test connects is not under test.
_WATCHED = ["fleet_common", "fleet_gateway", "fleet_data", "fleet_devops", "fleet_aiml"]
_REAL_FLEET = {"e2e", "chaos", "load", "blocking"}


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "blocking: may block the event loop")


@pytest.fixture(scope="session", autouse=True)
def _certificates_read_once() -> Iterator[None]:
    # Each client of httpx reads the authorities' 140 certificates anew, a sixth of the time of all tests.
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(httpx.create_ssl_context)
        patch.setattr("httpx._transports.default.create_ssl_context", once)
        yield


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
