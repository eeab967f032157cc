from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from fleet_common import logs

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
SECRET = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"  # made up
DSN = "postgres://app:hunter2@db"


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    structlog.reset_defaults()
    root.setLevel(level)
    root.handlers[:] = handlers


class Written:
    """What has been written to stderr so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def text(self) -> str:
        return self._capsys.readouterr().err

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Written:
    return Written(capsys)


def test_an_event_is_one_json_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json", service="data")
    structlog.get_logger().info("export_finished", rows=3)

    written = capsys.readouterr()
    assert written.out == ""
    [line] = [json.loads(text) for text in written.err.splitlines()]
    assert list(line)[:4] == ["timestamp", "level", "event", "service"]
    assert (line["level"], line["event"], line["service"]) == ("info", "export_finished", "data")
    assert line["rows"] == 3
    assert datetime.fromisoformat(line["timestamp"]).tzinfo == UTC


def test_events_below_the_level_are_not_written(stderr: Written) -> None:
    logs.configure("WARNING")
    structlog.get_logger().info("ignored")
    logging.getLogger("mcp.server").info("ignored")
    structlog.get_logger().warning("kept")
    assert [line["event"] for line in stderr.lines()] == ["kept"]


@pytest.mark.parametrize(
    "name", ["uvicorn.error", "uvicorn.access", "fastmcp.server", "mcp", "aiohttp"]
)
def test_records_of_libraries_take_the_same_path_once(name: str, stderr: Written) -> None:
    library = logging.getLogger(name.split(".", maxsplit=1)[0])
    library.addHandler(logging.StreamHandler(sys.stderr))
    library.propagate = False
    logs.configure("INFO", service="data")

    with logs.request_context(request_id="r1", tenant="demo"):
        logging.getLogger(name).info("GET %s", "/x?token=hunter2hunter2")

    [line] = stderr.lines()
    assert line["event"] == "GET /x?token=***"
    assert (line["logger"], line["request_id"], line["tenant"]) == (name, "r1", "demo")


def test_configuring_again_does_not_double_the_lines(stderr: Written) -> None:
    logs.configure("INFO", service="one")
    logs.configure("INFO", service="two")
    logging.getLogger("uvicorn").info("once")
    assert [line["service"] for line in stderr.lines()] == ["two"]


def test_a_cached_logger_follows_a_replaced_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.configure("INFO")
    log = structlog.get_logger()
    for _ in range(2):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        log.info("here")
        assert stream.getvalue().count("here") == 1


def test_a_cached_logger_follows_a_new_configuration(stderr: Written) -> None:
    logs.configure("INFO", service="one")
    log = structlog.get_logger()
    log.info("first")
    logs.configure("INFO", service="two")
    log.info("second")
    with structlog.testing.capture_logs() as captured:
        log.info("third")
    assert [line["service"] for line in stderr.lines()] == ["one", "two"]
    assert [event["event"] for event in captured] == ["third"]


def test_the_facts_of_a_request_are_on_every_line_and_gone_after_it(stderr: Written) -> None:
    logs.configure("INFO")
    log = structlog.get_logger()
    with logs.request_context(
        request_id="r1", trace_id="t1", tenant="demo", tool=None
    ) as request_id:
        log.info("inside")
    log.info("outside")

    inside, outside = stderr.lines()
    assert request_id == "r1"
    assert inside["request_id"] == "r1"
    assert (inside["trace_id"], inside["tenant"]) == ("t1", "demo")
    assert "tool" not in inside
    assert {"request_id", "trace_id", "tenant"}.isdisjoint(outside)


def test_an_inner_context_gives_the_outer_one_back(stderr: Written) -> None:
    logs.configure("INFO")
    with logs.request_context(request_id="outer", traceparent=TRACEPARENT):
        with logs.request_context(request_id="inner"):
            assert logs.current_traceparent() is None
        structlog.get_logger().info("after")
        assert logs.current_traceparent() == TRACEPARENT
    assert stderr.lines()[0]["request_id"] == "outer"


def test_a_request_without_an_id_gets_one_of_its_own() -> None:
    with logs.request_context() as first, logs.request_context() as second:
        assert len(first) == len(second) == 16
        assert first != second


async def test_concurrent_requests_do_not_share_facts(stderr: Written) -> None:
    logs.configure("INFO")
    both_inside = asyncio.Barrier(2)

    async def request(number: int) -> None:
        with logs.request_context(request_id=f"r{number}"):
            await both_inside.wait()
            structlog.get_logger().info("handled", number=number)

    async with asyncio.TaskGroup() as group:
        group.create_task(request(1))
        group.create_task(request(2))
    assert {(line["number"], line["request_id"]) for line in stderr.lines()} == {
        (1, "r1"),
        (2, "r2"),
    }


def test_the_trace_id_comes_from_the_traceparent() -> None:
    with logs.request_context(traceparent=TRACEPARENT):
        assert logs.request_facts()["trace_id"] == TRACE_ID
        assert logs.current_traceparent() == TRACEPARENT
    assert logs.current_traceparent() is None


@pytest.mark.parametrize(
    "header",
    [
        *("", "garbage", TRACEPARENT.upper(), TRACEPARENT + "-x", TRACEPARENT + "\r\nX-Evil: 1"),
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
    ],
)
def test_a_malformed_traceparent_is_ignored(header: str) -> None:
    with logs.request_context(trace_id="own", traceparent=header):
        assert logs.request_facts()["trace_id"] == "own"
        assert logs.current_traceparent() is None


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_removed_from_facts_and_tracebacks(
    log_format: logs.LogFormat, stderr: Written
) -> None:
    logs.configure("INFO", log_format)
    try:
        connect()
    except ConnectionError:
        structlog.get_logger().exception("connect_failed", api_key="abc", headers={"cookie": "xyz"})
        logging.getLogger("aiohttp").exception("also %s", SECRET)

    text = stderr.text()
    assert text.count("ConnectionError: cannot reach") == text.count("Traceback") == 2
    for shown in ("hunter2", SECRET, "'abc'", '"abc"', "xyz"):
        assert shown not in text


def connect() -> None:
    raise ConnectionError(f"cannot reach {DSN} with {SECRET}")


def test_console_lines_are_text_for_people(stderr: Written) -> None:
    logs.configure("INFO", "console", service="data")
    structlog.get_logger().info("started", port=8081)
    text = stderr.text()
    assert "started" in text
    assert "port=8081" in text


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(KeyError):
        logs.configure("LOUD")
