"""What each process of a fleet is told, as environment variables. A `FLEET_*` variable that the user has set wins.

A process sees its own variables only: the gateway never learns a database password, and `MIGRATOR_URL`, the DSN of
the database's owner, goes to `migrate` and `seed` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet_cli.engines.postgres import SUPERUSER, dsn
from fleet_cli.ports import SERVICES, Ports
from fleet_cli.secrets import Secrets
from fleet_cli.state import State

DATABASE = "crm"
# Calls in flight get this long after Ctrl-C; the whole fleet has ten seconds.
_SHUTDOWN_GRACE_S = "2"


@dataclass(frozen=True, slots=True)
class Environment:
    """Builds the environment of each process from the project's state and the user's own variables."""

    state: State
    ports: Ports
    secrets: Secrets
    user: Mapping[str, str]

    @property
    def embeds_postgres(self) -> bool:
        """Whether we bring the database: the user has named none."""
        return "FLEET_DATA_DATABASE_URL" not in self.user

    @property
    def embeds_valkey(self) -> bool:
        """Whether we bring the Redis: the user has named none."""
        return "FLEET_REDIS_URL" not in self.user

    @property
    def redis_url(self) -> str:
        """The user's Redis, or our Valkey."""
        ours = f"redis://:{self.secrets.valkey}@127.0.0.1:{self.ports['valkey']}/0"
        return self.user.get("FLEET_REDIS_URL", ours)

    @property
    def policy_file(self) -> Path | None:
        """The policy that all services share; None for the built-in one."""
        return self.state.policy_file(self.user)

    @property
    def migrator_url(self) -> str | None:
        """The DSN that may change the schema; None for a database of the user's without one."""
        if self.embeds_postgres:
            return self._dsn(SUPERUSER, self.secrets.postgres)
        return self.user.get("FLEET_DATA_MIGRATOR_URL")

    def of(self, service: str) -> dict[str, str]:
        """Return the whole environment of `python -m fleet_<service>`."""
        prefix = f"FLEET_{service.upper()}_"
        foreign = tuple(f"FLEET_{other.upper()}_" for other in SERVICES if other != service)
        inherited = {
            name: value
            for name, value in self.user.items()
            if not name.startswith(foreign) and name != "FLEET_DATA_MIGRATOR_URL"
        }
        ours = {prefix + name: value for name, value in self.defaults(service).items()}
        return {"PYTHONUNBUFFERED": "1", **ours, **inherited}

    def for_migration(self) -> dict[str, str]:
        """Return the environment of `migrate` and `seed`."""
        owner = {"FLEET_DATA_MIGRATOR_URL": self.migrator_url} if self.migrator_url else {}
        return {**self.of("data"), **owner}

    def defaults(self, service: str) -> dict[str, str]:
        """Return what we tell a service, without its prefix, where the user says nothing."""
        common = {
            "HOST": "127.0.0.1",
            "PORT": str(self.ports[service]),
            "KEYS_FILE": str(self.state.keys_file),
            "LOG_FORMAT": "console",
            "REDIS_URL": self.redis_url,
            "APPROVALS_KEY": self.secrets.approvals_key,
            "APPROVE_URL": f"{self.ports.base('gateway')}/approve",
            "AUDIT_SINK": "file",
            "AUDIT_FILE": str(self.state.audit_folder / f"{service}.jsonl"),
            "AUDIT_KEY": self.secrets.audit_key,
            "SHUTDOWN_GRACE_S": _SHUTDOWN_GRACE_S,
        }
        policy = self.policy_file
        if policy is not None:
            common["POLICY_FILE"] = str(policy)
        return {**common, **self._own(service)}

    def _own(self, service: str) -> dict[str, str]:
        if service == "gateway":
            return {
                "INTERNAL_PRIVATE_KEY_FILE": str(self.state.private_key_file),
                # On a laptop tools change with every edit, and versions do not.
                "CHANGED_TOOLS": "report",
                "SERVICES": ",".join(f"{name}={self.ports.base(name)}" for name in SERVICES[1:]),
            }
        verifier = {"INTERNAL_PUBLIC_KEY_FILE": str(self.state.public_key_file)}
        if service == "data":
            files = {
                "FILES_DIR": str(self.state.path / "files"),
                "LINKS_URL": self.ports.base("gateway"),
                "CREDENTIALS_KEYS": self.secrets.credentials_key,
            }
            return {**verifier, **files, **self._database()}
        if service == "aiml" and "FLEET_AIML_QDRANT_URL" not in self.user:
            return {**verifier, "VECTOR_PATH": str(self.state.path / "vectors")}
        return verifier

    def _database(self) -> dict[str, str]:
        claims = {"CLAIMS_KEY": self.secrets.claims_key}
        if not self.embeds_postgres:
            return claims
        return {
            **claims,
            "DATABASE_URL": self._dsn("crm_writer", self.secrets.writer),
            "READER_URL": self._dsn("crm_reader", self.secrets.reader),
        }

    def _dsn(self, user: str, password: str) -> str:
        return dsn(user, password, self.ports["postgres"], DATABASE)
