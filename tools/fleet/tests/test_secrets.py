from __future__ import annotations

import stat

from fleet_cli.secrets import ensure_secrets, read_admin_key, read_approver_key
from fleet_cli.state import State
from fleet_common.auth.internal import InternalSigner, InternalVerifier
from fleet_common.auth.keys import KeyFile
from fleet_common.testing import admin


def test_secrets_stay_the_same_from_start_to_start(state: State) -> None:
    assert ensure_secrets(state) == ensure_secrets(state)


def test_secrets_are_readable_by_their_owner_only_and_never_shown(state: State) -> None:
    secrets = ensure_secrets(state)

    for name in ("secrets.json", "keys.json", "internal/private.pem"):
        assert stat.S_IMODE((state.path / name).stat().st_mode) == 0o600
    assert secrets.admin_key not in repr(secrets)
    assert secrets.postgres not in repr(secrets)


def test_the_admin_key_opens_the_demo_tenant(state: State) -> None:
    secrets = ensure_secrets(state)

    record = KeyFile(state.keys_file).lookup(secrets.admin_key)

    assert record is not None
    assert (record.tenant, record.roles) == ("demo", ("admin",))
    assert read_admin_key(state) == secrets.admin_key


def test_people_here_have_a_key_that_approves_and_does_nothing_else(state: State) -> None:
    secrets = ensure_secrets(state)

    record = KeyFile(state.keys_file).lookup(secrets.approver_key)

    assert record is not None
    assert (record.tenant, record.roles) == ("demo", ("approver",))
    assert read_approver_key(state) == secrets.approver_key
    assert secrets.approver_key not in repr(secrets)


def test_a_revoked_admin_key_is_replaced(state: State) -> None:
    before = ensure_secrets(state)
    keys = KeyFile(state.keys_file)
    record = keys.lookup(before.admin_key)
    assert record is not None
    keys.revoke(record.id)

    after = ensure_secrets(state)

    assert after.admin_key != before.admin_key
    assert after.postgres == before.postgres


def test_a_project_that_never_ran_has_no_key(state: State) -> None:
    assert read_admin_key(state) is None


def test_what_the_gateway_signs_the_services_believe(state: State) -> None:
    ensure_secrets(state)
    token = InternalSigner(state.private_key_file.read_bytes()).mint(admin(), audience="data")

    verifier = InternalVerifier(state.public_key_file.read_bytes(), audience="data")

    found = verifier.verify(token)
    assert found is not None
    assert found[0].subject == admin().subject
