from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet_common.approvals import Plan
from fleet_common.auth import Principal
from fleet_common.auth.keys import KeyFile, NewKey
from fleet_common.tasks import TaskCaller
from fleet_common.tasks.caller import still_allowed
from fleet_common.testing import principal


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def key(keys: KeyFile) -> NewKey:
    return keys.create(name="test", roles=["admin", "sales"], tenant="demo")


def has_nothing(caller: Principal) -> bool:
    return not caller.roles


def test_a_caller_survives_its_time_in_redis() -> None:
    plan = Plan("Delete the contact Ada", {"Owner": "me"}, object_version="3")
    caller = TaskCaller(principal("sales", "viewer"), "0123456789abcdef", "00-trace", plan)
    assert TaskCaller.of_json(caller.to_json()) == caller


def test_a_key_that_is_as_it_was_keeps_its_rights(keys: KeyFile, key: NewKey) -> None:
    assert still_allowed(key.record.principal(), keys) == key.record.principal()


def test_a_revoked_key_has_no_rights_whichever_door_it_came_through(
    keys: KeyFile, key: NewKey
) -> None:
    keys.revoke(key.record.id)
    asked = key.record.principal()
    assert has_nothing(still_allowed(asked, keys))
    assert has_nothing(still_allowed(replace(asked, kind="internal"), keys))


def test_an_expired_key_has_no_rights(keys: KeyFile) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    expired = keys.create(name="test", roles=["admin"], tenant="demo", expires=past)
    assert has_nothing(still_allowed(expired.record.principal(), keys))


def test_an_unknown_key_counts_as_revoked_unless_the_gateway_vouched_for_it(keys: KeyFile) -> None:
    asked = principal("admin", subject="key:unknown1")
    assert has_nothing(still_allowed(asked, keys))
    vouched = replace(asked, kind="internal")
    assert still_allowed(vouched, keys) == vouched


def test_rights_only_ever_shrink(keys: KeyFile, key: NewKey) -> None:
    narrow = replace(
        key.record.principal(), roles=frozenset({"sales"}), scopes=frozenset({"data:read"})
    )
    assert still_allowed(narrow, keys) == narrow
    wide = replace(key.record.principal(), roles=frozenset({"admin", "operator"}))
    assert still_allowed(wide, keys).roles == {"admin"}


def test_other_callers_are_the_policys_business(keys: KeyFile) -> None:
    asked = replace(principal("viewer", subject="ada@example.com"), kind="oauth")
    assert still_allowed(asked, keys) == asked
    assert still_allowed(principal("admin"), None) == principal("admin")
