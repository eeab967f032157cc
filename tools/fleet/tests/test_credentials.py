"""`fleet key` and `fleet token`, as they are typed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from fleet_cli.__main__ import main
from fleet_cli.engines.freeport import free_port
from fleet_cli.secrets import ensure_secrets
from fleet_cli.state import State
from fleet_common.auth.keys import KeyFile
from fleet_common.auth.revocation import KEY
from fleet_common.auth.usage import KeyUsage
from fleet_common.redis import create_redis

Fleet = Callable[..., Result]


@pytest.fixture
def fleet(state: State, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Run `fleet WORDS` in the project."""
    monkeypatch.delenv("FLEET_KEY", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["--project", str(state.project), *words])

    return run


def test_a_key_is_shown_once_and_stored_as_a_hash(fleet: Fleet, state: State) -> None:
    made = fleet("key", "create", "laptop", "--role", "analyst", "--days", "7")

    text = made.stdout.strip()
    record = KeyFile(state.keys_file).lookup(text)
    assert record is not None
    assert (record.roles, record.tenant) == (("analyst",), "demo")
    assert record.expires is not None
    assert text not in state.keys_file.read_text()
    assert text not in fleet("key", "list").stdout


def test_keys_are_listed_and_revoked(fleet: Fleet, state: State) -> None:
    text = fleet("key", "create", "laptop").stdout.strip()
    record = KeyFile(state.keys_file).lookup(text)
    assert record is not None
    assert record.id in fleet("key", "list").stdout

    assert fleet("key", "revoke", record.id).exit_code == 0

    assert KeyFile(state.keys_file).lookup(text) is None


def test_an_id_to_revoke_is_never_cut(fleet: Fleet, state: State) -> None:
    words = ("--role", "analyst", "--role", "operator", "--days", "30", "--tenant", "a-long-name")
    text = fleet("key", "create", "a laptop with quite a long name", *words).stdout.strip()
    record = KeyFile(state.keys_file).lookup(text)
    assert record is not None
    fleet("key", "revoke", record.id)

    shown = fleet("key", "list").stdout

    assert record.id in shown
    assert "…" not in shown
    assert text not in shown


def test_a_rotated_key_works_in_both_forms_and_is_shown_once(fleet: Fleet, state: State) -> None:
    old = fleet("key", "create", "laptop").stdout.strip()
    made = fleet("key", "rotate", old.split("_")[1], "--overlap", "2h", "--days", "9")

    new = made.stdout.strip()
    assert "works until" in made.stderr
    keys = KeyFile(state.keys_file)
    record = keys.lookup(new)
    assert record is not None
    assert record == keys.lookup(old)
    assert record.old_until is not None
    left = datetime.fromisoformat(record.old_until) - datetime.now(UTC)
    assert timedelta(minutes=119) < left <= timedelta(hours=2)


def test_a_rotation_without_overlap_closes_the_old_form_now(fleet: Fleet, state: State) -> None:
    old = fleet("key", "create", "laptop").stdout.strip()
    assert fleet("key", "rotate", old.split("_")[1], "--overlap", "0s").exit_code == 0
    assert KeyFile(state.keys_file).lookup(old) is None


@pytest.mark.parametrize("overlap", ["soon", "1w", "-1h", "24"])
def test_an_overlap_that_is_no_time_is_refused_with_an_example(fleet: Fleet, overlap: str) -> None:
    result = fleet("key", "rotate", "ab12cd34", "--overlap", overlap)
    assert result.exit_code == 2
    assert "write 30m, 24h or 7d" in result.stderr


def test_the_list_tells_when_a_key_was_used_last(
    fleet: Fleet, state: State, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_REDIS_URL", redis_url)
    text = fleet("key", "create", "laptop").stdout.strip()
    key_id = text.split("_")[1]

    async def use() -> None:
        redis = create_redis(redis_url)
        usage = KeyUsage(redis, now=lambda: datetime(2026, 11, 5, 12, 30, tzinfo=UTC).timestamp())
        async with usage.written():
            usage.note(key_id)
        await redis.aclose(close_connection_pool=True)

    asyncio.run(use())
    assert "2026-11-05 12:30" in fleet("key", "list").stdout


def test_the_list_does_without_redis(
    fleet: Fleet, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_secrets(state)
    monkeypatch.setenv("FLEET_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    text = fleet("key", "create", "laptop").stdout.strip()
    assert f"fleet_{text.split('_')[1]}" in fleet("key", "list").stdout


@pytest.mark.parametrize(
    ("words", "entry"), [((), "jti:{}"), (("--subject",), "sub:{}")], ids=["token", "subject"]
)
def test_a_revoked_token_is_on_the_list(
    fleet: Fleet,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    entry: str,
) -> None:
    monkeypatch.setenv("FLEET_REDIS_URL", redis_url)
    name = uuid4().hex
    assert "revoked" in fleet("token", "revoke", name, *words).stdout

    async def listed() -> bool:
        redis = create_redis(redis_url)
        found = await redis.hexists(KEY, entry.format(name))
        await redis.aclose(close_connection_pool=True)
        return bool(found)

    assert asyncio.run(listed())


def test_a_token_cannot_be_revoked_while_redis_is_away(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    result = fleet("token", "revoke", "t1")
    assert result.exit_code == 1
    assert "Redis is not available" in result.stderr


@pytest.mark.parametrize(
    "words", [("revoke", "nonsense"), ("create", "laptop", "--role", "emperor")]
)
def test_what_the_key_file_refuses_is_a_sentence(fleet: Fleet, words: tuple[str, ...]) -> None:
    result = fleet("key", *words)

    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert result.stderr
