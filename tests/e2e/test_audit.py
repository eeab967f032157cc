"""The audit log of a running fleet: what was called is in it, and anybody who edits it is found out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from fleet_common.testing.wire import text

pytestmark = pytest.mark.blocking


class Fleet(Protocol):
    """What the fixture `fleet` gives."""

    urls: dict[str, str]
    key: str
    project: Path


def audit(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `fleet audit WORDS` in the project."""
    command = [sys.executable, "-m", "fleet_cli", "--project", str(project), "audit", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def connect(fleet: Fleet, service: str) -> Client[Any]:
    return Client(StreamableHttpTransport(fleet.urls[service], auth=fleet.key))


async def test_a_call_through_the_gateway_is_on_record_at_its_service(fleet: Fleet) -> None:
    name = f"Audit {uuid4().hex[:8]}"
    async with connect(fleet, "gateway") as client:
        await client.call_tool("crm_upsert", {"object": "company", "records": [{"name": name}]})
    shown = audit(fleet.project, "show", "--json", "--since", "1m", "--tool", "crm_upsert")
    records = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [record["outcome"] for record in records[-2:]] == ["started", "ok"]
    assert {record["service"] for record in records} == {"data"}
    assert name not in shown.stdout
    async with connect(fleet, "data") as client:
        found = await client.call_tool("fleet_audit_search", {"tool": "crm_upsert", "limit": 2})
    rows = json.loads(text(found))["rows"]
    assert [row[-1] for row in rows] == [records[-1]["arguments"]] * 2


def test_the_logs_of_all_services_are_whole_and_an_edit_is_found(fleet: Fleet) -> None:
    whole = audit(fleet.project, "verify")
    assert whole.returncode == 0, whole.stdout
    for service in fleet.urls:
        assert f"{service}.jsonl: " in whole.stdout
    log = fleet.project / ".fleet" / "audit" / "data.jsonl"
    kept = log.read_bytes()
    edited = log.with_name("edited.jsonl")
    try:
        edited.write_bytes(kept.replace(b'"tenant":"demo"', b'"tenant":"acme"', 1))
        found = audit(fleet.project, "verify", str(edited))
    finally:
        edited.unlink()
    assert found.returncode == 1
    assert "was changed" in found.stdout
