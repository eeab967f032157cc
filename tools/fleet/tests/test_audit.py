"""`fleet audit`: what it finds, and how it says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleet_cli.__main__ import main
from fleet_cli.audit import KEY_VARIABLE
from fleet_cli.secrets import ensure_secrets
from fleet_cli.state import State
from fleet_common.audit.chain import Chain, peek_record
from fleet_common.audit.events import AuditEvent
from fleet_common.audit.sinks import FileSink

Fleet = Callable[..., Result]
NOW = datetime.now(UTC)


@pytest.fixture
def fleet(state: State, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Run `fleet audit WORDS` in the project."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> Result:
        return CliRunner().invoke(
            main, ["--project", str(state.project), "audit", *map(str, words)]
        )

    return run


def event(target: str, minutes_ago: int = 0, **facts: str) -> AuditEvent:
    return AuditEvent(
        action="tool",
        target=target,
        decision="deny" if facts.get("outcome") == "unknown_tool" else "allow",
        outcome=facts.get("outcome", "ok"),
        subject=facts.get("subject", "key:demo0001"),
        tenant="demo",
        time=NOW - timedelta(minutes=minutes_ago),
    )


def write(path: Path, *events: AuditEvent, key: str | None = None, service: str = "data") -> Path:
    """Write what one process of `service` writes."""
    sink = FileSink(path, max_bytes=2000)
    tail = sink.open()
    chain = Chain(service=service, instance="host:1", key=key.encode() if key else None)
    sink.write([chain.start("file", previous=tail.head)])
    for each in events:
        sink.write([chain.event(each)])
    sink.write([chain.stop()])
    sink.close()
    return path


@pytest.fixture
def logs(state: State) -> Path:
    """The logs of two services of this project, keyed as `fleet run` has them keyed."""
    key = ensure_secrets(state).audit_key
    old = event("crm_search", 90), event("crm_delete", 80, outcome="unknown_tool")
    write(state.audit_folder / "data.jsonl", *old, event("db_query", 5), key=key)
    write(
        state.audit_folder / "devops.jsonl",
        event("gh_repo_get", 10, subject="key:else0001"),
        key=key,
        service="devops",
    )
    return state.audit_folder


def test_untouched_logs_are_said_to_be_whole(fleet: Fleet, logs: Path) -> None:
    result = fleet("verify")
    assert result.exit_code == 0
    assert f"{logs / 'data.jsonl'}: 5 records of 1 processes" in result.stdout
    assert f"{logs / 'devops.jsonl'}: 3 records of 1 processes" in result.stdout


def test_the_first_bad_record_is_printed(fleet: Fleet, logs: Path) -> None:
    path = logs / "data.jsonl"
    path.write_bytes(path.read_bytes().replace(b"crm_delete", b"crm_\x1b[2Jh"))
    result = fleet("verify")
    assert result.exit_code == 1
    assert "data.jsonl:3: the record was changed" in result.stdout
    assert (
        '"target":"crm_\\x1b[2Jh"' in result.stdout
    )  # nothing in it reaches the terminal as it is
    assert "devops.jsonl: 3 records" in result.stdout


def test_what_was_put_aside_is_checked_too(fleet: Fleet, logs: Path) -> None:
    path = logs / "data.jsonl"
    aside = path.rename(path.with_name("data.jsonl.000001"))
    assert fleet("verify").exit_code == 0
    aside.write_bytes(b"".join(aside.read_bytes().splitlines(keepends=True)[1:]))
    assert fleet("verify", path).exit_code == 1
    assert fleet("verify", "--partial", path).exit_code == 0


def test_a_crash_is_a_gap_and_no_forgery(fleet: Fleet, logs: Path) -> None:
    path = logs / "data.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    result = fleet("verify", path)
    assert result.exit_code == 0
    assert "gap: chain" in result.stdout
    assert "has no closing record after number 3" in result.stdout


def test_an_anchor_finds_a_cut_off_end(fleet: Fleet, logs: Path) -> None:
    path = logs / "data.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    anchor = peek_record(lines[-1])["hash"]
    assert fleet("verify", path, "--anchor", anchor).exit_code == 0
    path.write_bytes(b"".join(lines[:-1]))
    result = fleet("verify", path, "--anchor", anchor)
    assert result.exit_code == 1
    assert "the end was cut off" in result.stdout
    assert "Name its FILE" in fleet("verify", "--anchor", anchor).stderr


def test_a_log_from_elsewhere_takes_its_key_from_the_environment(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "the key of another machine, 32 bytes"
    path = write(tmp_path / "prod.jsonl", event("crm_search"), key=key)
    result = fleet("verify", path)
    assert result.exit_code == 1
    assert "needs the audit key" in result.stdout
    monkeypatch.setenv(KEY_VARIABLE, key)
    assert fleet("verify", path).exit_code == 0


def test_without_a_log_it_says_so(fleet: Fleet, tmp_path: Path) -> None:
    assert "There is no audit log here" in fleet("verify").stderr
    assert "There is no" in fleet("verify", tmp_path / "nothing.jsonl").stderr


def test_records_of_all_services_are_shown_in_order(fleet: Fleet, logs: Path) -> None:
    shown = fleet("show").stdout
    order = [shown.index(name) for name in ("crm_search", "crm_delete", "gh_repo_get", "db_query")]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--since", "1h"], ["gh_repo_get", "db_query"]),
        (["--since", (NOW - timedelta(minutes=7)).isoformat()], ["db_query"]),
        (["--subject", "key:else0001"], ["gh_repo_get"]),
        (["--tool", "crm_*"], ["crm_search", "crm_delete"]),
        (["--decision", "deny"], ["crm_delete"]),
        (["-n", "1"], ["db_query"]),
        (["--tool", "nothing"], []),
    ],
)
def test_records_are_chosen(fleet: Fleet, logs: Path, words: list[str], found: list[str]) -> None:
    lines = fleet("show", "--json", *words).stdout.splitlines()
    assert [json.loads(line)["target"] for line in lines] == found


@pytest.mark.parametrize("since", ["soon", "5", "-1h"])
def test_a_time_that_is_none_is_named(fleet: Fleet, logs: Path, since: str) -> None:
    result = fleet("show", f"--since={since}")
    assert result.exit_code == 1
    assert "is no time" in result.stderr


def test_the_table_of_the_database_can_be_printed(fleet: Fleet) -> None:
    assert "GRANT INSERT ON fleet_audit TO fleet_audit_writer;" in fleet("schema").stdout
