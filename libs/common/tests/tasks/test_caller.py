from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet_common.approvals import Plan
from fleet_common.auth import Principal
from fleet_common.auth.keys import KeyFile, NewKey
from fleet_common.auth.oauth import OAuth, OAuthConfig
from fleet_common.auth.revocation import Revocations
from fleet_common.errors import Unavailable
from fleet_common.metrics import Metrics
from fleet_common.policy import PolicyFile
from fleet_common.redis import create_redis
from fleet_common.tasks import TaskCaller
from fleet_common.tasks.caller import still_allowed
from fleet_common.testing import principal, wait_until


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def key(keys: KeyFile) -> NewKey:
    return keys.create(name="test", roles=["admin", "sales"], tenant="demo")


def now(asked: Principal, keys: KeyFile | None, oauth: OAuth | None = None) -> Principal:
    return still_allowed(TaskCaller(asked, asked_at=1000.0), keys, oauth)


def has_nothing(caller: Principal) -> bool:
    return not caller.roles


def test_a_caller_survives_its_time_in_redis() -> None:
    plan = Plan("Delete the contact Ada", {"Owner": "me"}, object_version="3")
    caller = TaskCaller(principal("sales", "viewer"), 1.5, "0123456789abcdef", "00-trace", plan)
    assert TaskCaller.of_json(caller.to_json()) == caller


def test_a_key_that_is_as_it_was_keeps_its_rights(keys: KeyFile, key: NewKey) -> None:
    assert now(key.record.principal(), keys) == key.record.principal()


def test_a_revoked_key_has_no_rights_whichever_door_it_came_through(
    keys: KeyFile, key: NewKey
) -> None:
    keys.revoke(key.record.id)
    asked = key.record.principal()
    assert has_nothing(now(asked, keys))
    assert has_nothing(now(replace(asked, kind="internal"), keys))


def test_an_expired_key_has_no_rights(keys: KeyFile) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    expired = keys.create(name="test", roles=["admin"], tenant="demo", expires=past)
    assert has_nothing(now(expired.record.principal(), keys))


def test_an_unknown_key_counts_as_revoked_unless_the_gateway_vouched_for_it(keys: KeyFile) -> None:
    asked = principal("admin", subject="key:unknown1")
    assert has_nothing(now(asked, keys))
    vouched = replace(asked, kind="internal")
    assert now(vouched, keys) == vouched


def test_rights_only_ever_shrink(keys: KeyFile, key: NewKey) -> None:
    narrow = replace(
        key.record.principal(), roles=frozenset({"sales"}), scopes=frozenset({"data:read"})
    )
    assert now(narrow, keys) == narrow
    wide = replace(key.record.principal(), roles=frozenset({"admin", "operator"}))
    assert now(wide, keys).roles == {"admin"}


def test_other_callers_are_the_policys_business(keys: KeyFile) -> None:
    asked = replace(principal("viewer", subject="oauth:ada"), kind="oauth")
    assert now(asked, keys) == asked
    assert now(principal("admin"), None) == principal("admin")


async def test_an_oauth_subject_whose_tokens_were_revoked_afterwards_has_no_rights(
    redis_url: str,
) -> None:
    redis, key = create_redis(redis_url), f"test:revoked:{secrets.token_hex(4)}"
    revocations = Revocations(redis, key=key, now=lambda: 1001.0)
    await revocations.revoke_subject("ada")
    config = OAuthConfig(issuer="https://idp.example", public_url="https://data.example")
    oauth = OAuth(config, revocations, PolicyFile(None), Metrics("test"))
    asked = replace(principal("admin", subject="oauth:ada"), kind="oauth")
    with pytest.raises(Unavailable):
        now(asked, None, oauth)
    async with revocations.watched():
        await wait_until(lambda: known(revocations))
        assert has_nothing(now(asked, None, oauth))
        later = TaskCaller(asked, asked_at=1002.0)
        assert still_allowed(later, None, oauth) == asked
        assert now(principal("admin", subject="key:ada"), None, oauth).roles == {"admin"}
    await redis.aclose(close_connection_pool=True)


async def known(revocations: Revocations) -> bool:
    try:
        return revocations.covers_subject("ada", 0.0)
    except Unavailable:
        return False
