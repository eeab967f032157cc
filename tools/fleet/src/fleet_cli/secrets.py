"""What is generated once per project: passwords, keys, and the key pair behind internal tokens."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from fleet_cli.state import State, write_private
from fleet_common.auth.keys import KeyFile

FILE = "secrets.json"
DEMO_TENANT = "demo"
_KEY_NAME = "made by fleet run"


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of one project; nothing here is ever printed, except the admin key on its owner's screen."""

    postgres: str = field(repr=False)
    writer: str = field(repr=False)
    reader: str = field(repr=False)
    valkey: str = field(repr=False)
    claims_key: str = field(repr=False)
    approvals_key: str = field(repr=False)
    audit_key: str = field(repr=False)
    credentials_key: str = field(repr=False)
    admin_key: str = field(repr=False)
    approver_key: str = field(repr=False)


def ensure_secrets(state: State) -> Secrets:
    """Return the project's secrets, generating what is missing."""
    state.ensure()
    known = state.read(FILE)
    names = (
        "postgres",
        "writer",
        "reader",
        "valkey",
        "claims_key",
        "approvals_key",
        "audit_key",
        "credentials_key",
    )
    facts = {name: known.get(name) or secrets.token_urlsafe(32) for name in names}
    for role in ("admin", "approver"):
        facts[f"{role}_key"] = _key(state, known.get(f"{role}_key"), role)
    if facts != known:
        state.write(FILE, facts)
    _ensure_keypair(state)
    return Secrets(**facts)


def read_admin_key(state: State) -> str | None:
    """Return the admin key of a project that has run; None otherwise."""
    return state.read(FILE).get("admin_key")


def read_approver_key(state: State) -> str | None:
    """Return the key with which people at this machine approve calls; None for a project that never ran."""
    return state.read(FILE).get("approver_key")


def read_audit_key(state: State) -> str | None:
    """Return the key of the audit logs of a project that has run; None otherwise."""
    return state.read(FILE).get("audit_key")


def _key(state: State, known: str | None, role: str) -> str:
    keys = KeyFile(state.keys_file)
    if known and keys.lookup(known):
        return known
    # Revoked by hand, or the key file is gone: the old text opens nothing, so a new one is made.
    return keys.create(name=_KEY_NAME, roles=[role], tenant=DEMO_TENANT).text


def _ensure_keypair(state: State) -> None:
    if state.private_key_file.exists() and state.public_key_file.exists():
        return
    # Costs 0.1 s of import, needed once per project.
    from fleet_common.auth.internal import generate_keypair  # noqa: PLC0415

    private, public = generate_keypair()
    write_private(state.private_key_file, private.decode())
    write_private(state.public_key_file, public.decode())
