from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fleet_common.audit import create_audit
from fleet_common.audit.sinks import FileSink, StreamSink
from fleet_common.postgres.audit import PostgresSink
from fleet_common.settings import ServiceSettings, SettingsError


def test_records_go_to_stdout_unless_told_otherwise() -> None:
    audit = create_audit("data", ServiceSettings())
    assert isinstance(audit.sink, StreamSink)
    assert audit.key is None
    assert audit.captures is False


@pytest.mark.parametrize(("is_stdio", "stream"), [(False, "out"), (True, "err")])
def test_on_stdio_the_protocol_keeps_stdout_for_itself(
    capfd: pytest.CaptureFixture[str], is_stdio: bool, stream: str
) -> None:
    async def open_and_close() -> None:
        async with create_audit("data", ServiceSettings(), is_stdio=is_stdio).opened():
            pass

    asyncio.run(open_and_close())
    captured = capfd.readouterr()
    assert '"kind":"start"' in getattr(captured, stream)
    assert ('"kind":"start"' in captured.out) is not is_stdio


def test_a_file_and_a_database_are_used_when_they_are_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    settings = ServiceSettings(audit_sink="file", audit_file=path, audit_key="k" * 32)
    audit = create_audit("data", settings)
    assert isinstance(audit.sink, FileSink)
    assert audit.sink.path == path
    assert audit.key == b"k" * 32
    assert list(tmp_path.iterdir()) == []  # nothing is done before it is opened

    settings = ServiceSettings(audit_sink="postgres", audit_database_url="postgres://host/db")
    assert isinstance(create_audit("data", settings).sink, PostgresSink)


def test_records_are_found_again_as_far_as_the_sink_allows(tmp_path: Path) -> None:
    def covered(service: str, **settings: Any) -> str | None:
        reader = create_audit(service, ServiceSettings(**settings)).reader
        return reader.covers if reader else None

    assert covered("data") is None
    own = covered("data", audit_sink="file", audit_file=tmp_path / "data.jsonl")
    assert own is not None
    assert own.startswith("this process")
    database = {"audit_sink": "postgres", "audit_database_url": "postgres://writer@host/db"}
    assert covered("data", **database) is None
    database["audit_reader_url"] = "postgres://reader@host/db"
    assert covered("data", **database) == "all replicas of data"
    assert covered("gateway", **database) == "all services of the fleet"


@pytest.mark.parametrize(
    ("sink", "variable"), [("file", "AUDIT_FILE"), ("postgres", "AUDIT_DATABASE_URL")]
)
def test_a_sink_without_its_place_names_the_variable(sink: Any, variable: str) -> None:
    with pytest.raises(SettingsError, match=f"FLEET_{variable} is not set"):
        create_audit("data", ServiceSettings(audit_sink=sink))


def test_a_short_key_is_refused() -> None:
    with pytest.raises(SettingsError, match="FLEET_AUDIT_KEY"):
        ServiceSettings.read({"FLEET_AUDIT_KEY": "short"})
