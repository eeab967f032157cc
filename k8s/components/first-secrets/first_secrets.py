"""Make the Secrets that a first deployment needs, from fresh random values; those that are there stay as they are.

Runs in the cluster as the Job `first-secrets`, on the gateway's image. What belongs together derives from one
Secret, so that a run which was interrupted goes on with the same values.
"""

from __future__ import annotations

import base64
import secrets
import ssl
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import httpx

from fleet_common.auth.internal import generate_keypair
from fleet_common.auth.keys import KeyFile

Values: TypeAlias = dict[str, str]

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TENANT = "demo"
SERVICES = ("gateway", "data", "devops", "aiml")


class Vault:
    """The Secrets of one namespace."""

    def __init__(self, api: httpx.Client, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/secrets"

    def ensure(self, name: str, make: Callable[[], Values]) -> Values:
        """Return what the Secret `name` holds; a missing one is made first."""
        found = self._api.get(f"{self._path}/{name}")
        if found.status_code != 404:
            found.raise_for_status()
            held: Values = found.json().get("data", {})
            return {key: base64.b64decode(value).decode() for key, value in held.items()}
        values = make()
        body = {"metadata": {"name": name}, "type": "Opaque", "stringData": values}
        self._api.post(self._path, json=body).raise_for_status()
        print(f"made {name}")
        return values


def make_secrets(vault: Vault) -> None:
    """Make all that is missing."""
    keys = vault.ensure("first-keys", _keys)
    vault.ensure("fleet-keys", lambda: {"keys.json": keys["keys.json"]})
    pair = vault.ensure("fleet-internal-private", _pair)
    vault.ensure("fleet-internal-public", lambda: {"public.pem": pair["public.pem"]})
    passwords = {
        name: vault.ensure(name, _password)["password"] for name in ("postgres", "redis", "qdrant")
    }
    shared = vault.ensure("fleet-shared", lambda: {"approvals": _random(), "audit": _random()})
    owner = _dsn("postgres", passwords["postgres"])
    vault.ensure("data-migrator", lambda: {"FLEET_DATA_MIGRATOR_URL": owner})
    for service in SERVICES:
        vault.ensure(service, partial(_of, service, passwords, shared))


def _of(service: str, passwords: Values, shared: Values) -> Values:
    own: dict[str, Callable[[], Values]] = {
        "data": lambda: {
            "DATABASE_URL": _dsn("crm_writer", _random()),
            "READER_URL": _dsn("crm_reader", _random()),
            "CLAIMS_KEY": _random(),
            "CREDENTIALS_KEYS": _random(),
        },
        "devops": lambda: {"DIGEST_KEY": _random()},
        "aiml": lambda: {"QDRANT_API_KEY": passwords["qdrant"]},
    }
    values = {
        "REDIS_URL": f"redis://:{passwords['redis']}@redis:6379/0",
        "APPROVALS_KEY": shared["approvals"],
        "AUDIT_KEY": shared["audit"],
        **own.get(service, dict)(),
    }
    return {f"FLEET_{service.upper()}_{key}": value for key, value in values.items()}


def _keys() -> Values:
    """Return a key for everything, one for approving, and the file that lets both in."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.json"
        file = KeyFile(path)
        made = {
            role: file.create(name=role, roles=[role], tenant=TENANT).text
            for role in ("admin", "approver")
        }
        return {**made, "keys.json": path.read_text("utf-8")}


def _pair() -> Values:
    private, public = generate_keypair()
    return {"private.pem": private.decode(), "public.pem": public.decode()}


def _password() -> Values:
    return {"password": _random()}


def _random() -> str:
    return secrets.token_hex(24)


def _dsn(user: str, password: str) -> str:
    return f"postgresql://{user}:{password}@postgres:5432/crm"


def main(url: str) -> None:
    """Make them in the pod's own namespace."""
    tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    # Many clusters' own certificates lack an authority key identifier, which Python 3.13 asks for.
    tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
    bearer = {"authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"}
    with httpx.Client(base_url=url, headers=bearer, verify=tls, timeout=30) as api:
        make_secrets(Vault(api, (ACCOUNT / "namespace").read_text()))


if __name__ == "__main__":
    main(*sys.argv[1:])
