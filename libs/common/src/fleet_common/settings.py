"""Settings: read once from `FLEET_<SERVICE>_*`, frozen, printed with their sources and without their secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

LogFormat = Literal["json", "console"]


def _split(value: Any) -> Any:
    return (
        tuple(p.strip() for p in value.split(",") if p.strip()) if isinstance(value, str) else value
    )


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""A tuple written as `a,b,c` in the environment."""


SecretList = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]
"""Secrets written as `old,new` in the environment, so that one can be replaced without a gap."""


class SettingsError(Exception):
    """Raised at start when a setting is missing or wrong; the text names the variable."""


class ServiceSettings(BaseSettings):
    """What every service can be told. A service subclasses this with its own prefix and fields."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_prefix="FLEET_", hide_input_in_errors=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(0, ge=0, le=65535, description="Port to listen on.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe event that is logged."
    )
    log_format: LogFormat = Field("json", description="json for machines, console for people.")
    keys_file: Path | None = Field(
        None,
        description="JSON file with the fleet keys, stored as hashes; reloaded when it changes.",
    )
    policy_file: Path | None = Field(
        None,
        description="YAML file that says which role may do what; built-in roles without one; followed as it changes.",
    )
    internal_public_key_file: Path | None = Field(
        None, description="PEM with the public key that verifies the gateway's internal tokens."
    )
    oauth_issuer: str | None = Field(
        None,
        description="Exact issuer of the OAuth access tokens that are accepted; without it keys only.",
    )
    public_url: str | None = Field(
        None,
        description="Base URL of this service as clients see it; with /mcp it is the audience of their tokens.",
    )
    oauth_jwks_url: str | None = Field(
        None, description="Where the issuer's keys are; found in the issuer's metadata by default."
    )
    oauth_algorithms: CommaList = Field(
        ("RS256", "ES256", "PS256"),
        description="Signatures that are accepted, comma-separated, among RS256, ES256 and PS256.",
    )
    oauth_tenant_claim: str = Field(
        "tenant",
        description="Claim with the caller's tenant; a token without it is refused. Dots lead into objects.",
    )
    oauth_roles_claim: str = Field(
        "roles", description="Claim with the names of the caller's roles."
    )
    introspection_url: str | None = Field(
        None, description="Endpoint that is asked about opaque access tokens (RFC 7662)."
    )
    introspection_client_id: str = Field("", description="This service's client id there.")
    introspection_client_secret: SecretStr | None = Field(
        None, description="This service's client secret there."
    )
    redis_url: SecretStr | None = Field(
        None,
        description="Redis or Valkey that all replicas share: limits, approvals, switches, tasks, cache.",
    )
    approvals_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Secret of 32 characters or more, the same in all replicas of a service, that seals approvals; "
        "without one each process makes its own.",
    )
    approve_url: str | None = Field(
        None,
        description="Where people approve calls: the gateway's `/approve` as their browsers reach it.",
    )
    audit_sink: Literal["stdout", "file", "postgres"] = Field(
        "stdout", description="Where audit records go; on stdio, stderr stands in for stdout."
    )
    audit_file: Path | None = Field(
        None, description="File of the sink `file`; a further process writes `NAME-2.jsonl`."
    )
    audit_file_mb: int = Field(
        64, ge=1, le=100_000, description="Size at which the file is put aside, in MB."
    )
    audit_database_url: SecretStr | None = Field(
        None, description="DSN of the sink `postgres`; a role that may insert and nothing else."
    )
    audit_reader_url: SecretStr | None = Field(
        None,
        description="DSN by which `fleet_audit_search` reads what the sink `postgres` wrote; a role "
        "that sees one tenant at a time. Without it there is nothing to search.",
    )
    audit_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Secret that makes hashes and argument digests HMACs: without it nobody can forge a chain "
        "or guess arguments.",
    )
    audit_capture: bool = Field(
        False, description="Record masked arguments and results of tools as well."
    )
    replicas: int = Field(
        1,
        ge=1,
        le=10_000,
        description="Processes of this service to assume, for limits without Redis, until they were counted once.",
    )
    allowed_hosts: CommaList = Field(
        (), description="Host headers accepted besides loopback, comma-separated."
    )
    allowed_origins: CommaList = Field(
        (), description="Browser origins accepted (CORS and Origin check), comma-separated."
    )
    stdio_key: SecretStr | None = Field(
        None, description="Fleet key that names the caller on stdio; without one stdio is refused."
    )
    slots: int = Field(
        64, ge=1, le=10_000, description="Tool calls that run at once in this process."
    )
    queue: int = Field(
        128, ge=0, le=10_000, description="Tool calls that may wait for a slot; more are shed."
    )
    tracing_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^@\s]+$",
        description="OTLP/HTTP collector that traces go to, such as http://collector:4318; tracing is off without one.",
    )
    tracing_sample_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the traces beginning here that are recorded; a caller's own decision comes first.",
    )
    queue_wait_s: float = Field(
        1.0,
        ge=0,
        le=60,
        description="Longest wait for a slot, in seconds; a call that would wait longer is shed and can go to another "
        "replica.",
    )
    default_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Time a call has when the caller names none, in seconds."
    )
    tasks_worker: bool = Field(
        True,
        description="Run tasks in the `serve` process, too; off where `worker` processes do it all.",
    )
    tasks_concurrency: int = Field(
        4, ge=1, le=1000, description="Tasks that run at once in this process."
    )
    tasks_timeout_s: float = Field(3600.0, gt=0, description="Longest a task may run, in seconds.")
    tasks_redelivery_s: float = Field(
        30.0,
        ge=1,
        description="Time after which another worker takes over the tasks of one that died, in seconds.",
    )
    shutdown_grace_s: float = Field(
        25.0, ge=0, description="Time in-flight calls have after SIGTERM, in seconds."
    )

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return the settings of this process.

        Raises:
            SettingsError: a variable is missing or wrong; the text names it and says what is expected.
        """
        try:
            if environ is None:
                return cls()
            known = {k: v for k, v in environ.items() if k.startswith(cls.prefix())}
            # Any: pydantic-settings adds keyword arguments of its own to the constructor's type.
            fields: dict[str, Any] = {
                k.removeprefix(cls.prefix()).lower(): v for k, v in known.items()
            }
            return cls(**fields)
        except ValidationError as exc:
            raise SettingsError(_explain(cls.prefix(), exc)) from None

    @classmethod
    def prefix(cls) -> str:
        """Return the prefix of this service's variables, such as `FLEET_DATA_`."""
        return str(cls.model_config["env_prefix"])


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as `fleet config` shows it."""

    variable: str
    value: str
    source: Literal["environment", "default"]
    description: str


def describe(settings: ServiceSettings) -> list[SettingRow]:
    """Return every setting with its value and source; secrets are masked."""
    rows = []
    for name, field in type(settings).model_fields.items():
        variable = f"{settings.prefix()}{name.upper()}"
        rows.append(
            SettingRow(
                variable=variable,
                value=_shown(getattr(settings, name)),
                source="environment" if variable in os.environ else "default",
                description=field.description or "",
            )
        )
    return rows


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, Mapping):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return "" if value is None else str(value)


def _explain(prefix: str, error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        variable = prefix + "_".join(str(part) for part in problem["loc"]).upper()
        what = "is not set" if problem["type"] == "missing" else problem["msg"]
        lines.append(f"{variable}: {what}")
    return "; ".join(lines)
