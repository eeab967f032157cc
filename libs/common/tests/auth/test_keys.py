from __future__ import annotations

import asyncio
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fleet_common.auth.keys import KeyFile
from fleet_common.auth.usage import KeyUsage
from fleet_common.errors import InvalidInput, NotFound
from fleet_common.mcp.identity import KeyVerifier
from fleet_common.policy import Policy


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "keys.json"


@pytest.fixture
def keys(path: Path) -> KeyFile:
    return KeyFile(path)


def test_a_new_key_opens_and_stands_for_its_roles(keys: KeyFile) -> None:
    new = keys.create(name="laptop", roles=["viewer"], tenant="acme")
    record = keys.lookup(new.text)
    assert record is not None
    caller = record.principal()
    assert (caller.subject, caller.tenant, caller.kind) == (f"key:{record.id}", "acme", "key")
    assert caller.roles == {"viewer"}
    assert caller.scopes is None


def test_only_the_hash_is_stored_and_only_the_owner_may_read(keys: KeyFile, path: Path) -> None:
    new = keys.create(name="laptop", roles=["admin"], tenant="acme")
    secret = new.text.split("_", 2)[2]
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("wrong", ["", "fleet_", "fleet_00000000_x", "Bearer"])
def test_anything_else_opens_nothing(keys: KeyFile, wrong: str) -> None:
    keys.create(name="laptop", roles=["admin"], tenant="acme")
    assert keys.lookup(wrong) is None


def test_the_right_id_with_another_secret_opens_nothing(keys: KeyFile) -> None:
    new = keys.create(name="laptop", roles=["admin"], tenant="acme")
    assert keys.lookup(new.text[:-1] + ("A" if new.text[-1] != "A" else "B")) is None


def test_a_revoked_key_stops_working_in_another_process_within_a_second(path: Path) -> None:
    clock = Clock()
    here, elsewhere = KeyFile(path), KeyFile(path, monotonic=clock)
    new = here.create(name="laptop", roles=["admin"], tenant="acme")
    assert elsewhere.lookup(new.text)
    here.revoke(new.record.id)
    clock.now += 1.0
    assert elsewhere.lookup(new.text) is None


def test_revoking_twice_keeps_the_first_time(keys: KeyFile) -> None:
    key_id = keys.create(name="laptop", roles=["admin"], tenant="acme").record.id
    assert keys.revoke(key_id).revoked == keys.revoke(key_id).revoked


def test_an_expired_key_opens_nothing(keys: KeyFile) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    new = keys.create(name="old", roles=["admin"], tenant="acme", expires=past)
    assert keys.lookup(new.text) is None


def test_an_unknown_role_is_refused_with_the_known_ones(keys: KeyFile) -> None:
    with pytest.raises(InvalidInput, match=r"unknown role root\. Roles are: viewer"):
        keys.create(name="x", roles=["root"], tenant="acme")


def test_roles_are_those_of_the_policy_in_force(keys: KeyFile) -> None:
    policy = Policy.model_validate({"version": 1, "roles": {"auditor": {}}})
    new = keys.create(name="x", roles=["auditor"], tenant="acme", policy=policy)
    assert new.record.roles == ("auditor",)
    with pytest.raises(InvalidInput, match=r"unknown role admin\. Roles are: auditor"):
        keys.create(name="x", roles=["admin"], tenant="acme", policy=policy)


def test_a_key_without_a_role_is_refused(keys: KeyFile) -> None:
    with pytest.raises(InvalidInput, match="none given"):
        keys.create(name="x", roles=[], tenant="acme")


def test_revoking_an_unknown_key_says_so(keys: KeyFile) -> None:
    with pytest.raises(NotFound, match="key 00000000 not found"):
        keys.revoke("00000000")


def test_a_damaged_file_keeps_the_last_good_keys(path: Path) -> None:
    clock = Clock()
    keys = KeyFile(path, monotonic=clock)
    new = keys.create(name="laptop", roles=["admin"], tenant="acme")
    assert keys.lookup(new.text)
    path.write_text('{"version": 1, "keys": [')
    clock.now += 1.0
    assert keys.lookup(new.text)


@pytest.mark.parametrize("text", ["", "[]", '{"keys": [{"id": "1"}]}', '{"keys": 7}', "\x00"])
def test_a_damaged_file_is_named_and_never_overwritten(
    keys: KeyFile, path: Path, text: str
) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"keys\.json is damaged\. Restore it"):
        keys.create(name="x", roles=["viewer"], tenant="acme")
    with pytest.raises(InvalidInput, match="damaged"):
        keys.list()
    assert path.read_text() == text


def test_a_file_that_cannot_be_read_keeps_the_last_good_keys_and_says_so_once(path: Path) -> None:
    clock = Clock()
    keys = KeyFile(path, monotonic=clock)
    new = keys.create(name="laptop", roles=["admin"], tenant="acme")
    assert keys.lookup(new.text)
    stored = path.read_text()
    path.unlink()
    path.mkdir()
    with capture_logs() as lines:
        for _ in range(3):
            clock.now += 1.0
            assert keys.lookup(new.text)
    assert [line["event"] for line in lines] == ["keys_unreadable"]
    path.rmdir()
    path.write_text(stored.replace("admin", "viewer"))
    clock.now += 1.0
    found = keys.lookup(new.text)
    assert found is not None
    assert found.roles == ("viewer",)


def test_a_folder_that_cannot_be_entered_keeps_the_last_good_keys(path: Path) -> None:
    clock = Clock()
    keys = KeyFile(path, monotonic=clock)
    new = keys.create(name="laptop", roles=["admin"], tenant="acme")
    assert keys.lookup(new.text)
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.write_text("no folder")
    clock.now += 1.0
    assert keys.lookup(new.text)


def test_a_deleted_file_closes_every_door(path: Path) -> None:
    clock = Clock()
    keys = KeyFile(path, monotonic=clock)
    new = keys.create(name="laptop", roles=["admin"], tenant="acme")
    path.unlink()
    clock.now += 1.0
    assert keys.lookup(new.text) is None
    assert keys.list() == []


def test_keys_are_listed_with_their_facts(keys: KeyFile, path: Path) -> None:
    keys.create(name="a", roles=["viewer"], tenant="acme")
    keys.create(name="b", roles=["sales", "viewer"], tenant="acme")
    assert sorted(record.name for record in keys.list()) == ["a", "b"]
    assert len(json.loads(path.read_text())["keys"]) == 2


def test_after_a_rotation_both_secrets_stand_for_the_same_key(keys: KeyFile) -> None:
    old = keys.create(name="laptop", roles=["viewer"], tenant="acme")
    new = keys.rotate(old.record.id, overlap=timedelta(hours=1))
    assert new.text != old.text
    found = [keys.lookup(text) for text in (old.text, new.text)]
    assert [record and record.principal().subject for record in found] == [
        f"key:{old.record.id}"
    ] * 2


def test_the_old_secret_ends_with_the_overlap(keys: KeyFile) -> None:
    old = keys.create(name="laptop", roles=["viewer"], tenant="acme")
    new = keys.rotate(old.record.id, overlap=timedelta())
    assert keys.lookup(old.text) is None
    assert keys.lookup(new.text)


def test_a_second_rotation_ends_the_first_secret_at_once(keys: KeyFile) -> None:
    first = keys.create(name="laptop", roles=["viewer"], tenant="acme")
    second = keys.rotate(first.record.id, overlap=timedelta(hours=1))
    third = keys.rotate(first.record.id, overlap=timedelta(hours=1))
    assert [bool(keys.lookup(key.text)) for key in (first, second, third)] == [False, True, True]


def test_revoking_a_rotated_key_closes_both_secrets(keys: KeyFile) -> None:
    old = keys.create(name="laptop", roles=["viewer"], tenant="acme")
    new = keys.rotate(old.record.id, overlap=timedelta(hours=1))
    keys.revoke(old.record.id)
    assert keys.lookup(old.text) is None
    assert keys.lookup(new.text) is None


def test_a_rotation_keeps_the_expiry_unless_it_is_told_another(keys: KeyFile) -> None:
    soon, later = (datetime.now(UTC) + timedelta(days=days) for days in (1, 90))
    key_id = keys.create(name="x", roles=["viewer"], tenant="acme", expires=soon).record.id
    kept = keys.rotate(key_id, overlap=timedelta()).record.expires
    moved = keys.rotate(key_id, overlap=timedelta(), expires=later).record.expires
    assert kept == soon.isoformat(timespec="seconds")
    assert moved == later.isoformat(timespec="seconds")


def test_a_closed_key_is_not_rotated(keys: KeyFile) -> None:
    key_id = keys.create(name="x", roles=["viewer"], tenant="acme").record.id
    keys.revoke(key_id)
    with pytest.raises(InvalidInput, match="opens nothing any more"):
        keys.rotate(key_id, overlap=timedelta())
    with pytest.raises(NotFound):
        keys.rotate("00000000", overlap=timedelta())


def test_a_key_is_known_by_its_id_its_prefix_and_itself(keys: KeyFile) -> None:
    new = keys.create(name="x", roles=["viewer"], tenant="acme")
    assert new.text.startswith(f"{new.record.prefix}_")
    for name in (new.record.id, new.record.prefix, new.text):
        assert keys.revoke(name).id == new.record.id


def test_a_file_from_before_rotation_is_read(keys: KeyFile, path: Path) -> None:
    new = keys.create(name="x", roles=["viewer"], tenant="acme")
    stored = json.loads(path.read_text())
    for name in ("rotated", "old_sha256", "old_until"):
        del stored["keys"][0][name]
    path.write_text(json.dumps(stored))
    assert KeyFile(path).lookup(new.text)


@pytest.fixture
def slow(path: Path) -> tuple[str, str]:
    """A key, and the content of its file, whose readers now wait for whoever writes it."""
    new = KeyFile(path).create(name="laptop", roles=["viewer"], tenant="acme")
    stored = path.read_text("utf-8")
    path.unlink()
    os.mkfifo(path)
    return new.text, stored


async def test_who_comes_while_the_file_is_first_read_waits_for_it(
    path: Path, slow: tuple[str, str]
) -> None:
    verifier = KeyVerifier(KeyFile(path), KeyUsage(None))
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(verifier.verify_token(slow[0])) for _ in range(4)]
        await asyncio.to_thread(path.write_text, slow[1], "utf-8")
    assert all(caller.result() is not None for caller in callers)
