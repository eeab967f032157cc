"""Settings of the data service: `FLEET_DATA_*`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from fleet_common.settings import CommaList, SecretList, ServiceSettings
from fleet_data.connectors.hubspot.models import CustomFields
from fleet_data.databases.models import NamedDsns


class Settings(ServiceSettings):
    """What the data service can be told."""

    model_config = SettingsConfigDict(env_prefix="FLEET_DATA_")

    port: int = Field(8081, ge=0, le=65535, description="Port to listen on.")
    queue_wait_s: float = Field(
        0.25,
        ge=0,
        le=60,
        description="Longest wait for a slot, in seconds: what the target for p95 leaves.",
    )
    database_url: SecretStr = Field(description="DSN of the role crm_writer, for changes.")
    reader_url: SecretStr = Field(
        description="DSN of the role crm_reader, for everything that reads."
    )
    claims_key: SecretStr = Field(
        min_length=32,
        description="Secret of 32 characters or more that signs tenant claims and cursors; "
        "`migrate` installs it in the database.",
    )
    claims_keys_before: SecretList = Field(
        (),
        description="Earlier values of the claims key, comma-separated: unsubscribe links in mails that were sent then "
        "still work.",
    )
    migrator_url: SecretStr | None = Field(
        None, description="DSN of the owner or a superuser; only `migrate` needs it."
    )
    pool_size: int = Field(
        10, ge=1, le=200, description="Most connections per role and process; two roles are used."
    )
    pool_wait_s: float = Field(
        5.0, gt=0, description="Longest wait for a free connection, in seconds."
    )
    query_timeout_s: float = Field(
        10.0, gt=0, le=600, description="Longest time one statement may run, in seconds."
    )
    accept_privileges: CommaList = Field(
        (),
        description="Privileges of the reader that readiness tolerates, comma-separated globs; "
        "for managed databases that do not allow the REVOKE, e.g. `execute:*`.",
    )
    databases: NamedDsns = Field(
        {},
        description="Other PostgreSQL databases that `db_*` tools may read, as a JSON object of names and DSNs of "
        'read-only roles: `{"warehouse": "postgresql://…"}`.',
    )
    files_dir: Path | None = Field(
        None,
        description="Folder for exports and uploads, shared by all replicas and workers; without one there are none.",
    )
    links_url: str | None = Field(
        None,
        description="Base URL of links to files, and of the pages where accounts are connected: the gateway, or this "
        "service, as users reach it.",
    )
    files_hours: int = Field(
        24, ge=1, le=720, description="How long files and uploads are kept, in hours."
    )
    transfer_timeout_s: float = Field(
        900.0, gt=0, le=86400, description="Longest time the statement of an export may run."
    )
    export_rows: int = Field(
        10_000_000, ge=1, description="Most rows of an export; a role's `max_rows` may be lower."
    )
    export_mb: int = Field(2048, ge=1, description="Largest file of an export, in MB.")
    mail_from: str | None = Field(
        None,
        pattern=r"^[^@\s<>]+@[^@\s<>]+$",
        description="Address that all mail is from; mail is off without one.",
    )
    mail_per_day: int = Field(
        2000,
        ge=1,
        description="Most mails of one tenant within 24 hours, those of campaigns, workflows and single ones together.",
    )
    smtp_url: SecretStr | None = Field(
        None,
        description="Server that takes mail: smtps://user:password@host, or smtp://… with STARTTLS.",
    )
    unsubscribe_url: str | None = Field(
        None,
        description="The gateway's `/unsubscribe` as recipients reach it; campaigns are not sent without one.",
    )
    credentials_keys: SecretList = Field(
        (),
        description="Secrets of 32 characters or more that seal the credentials of connected accounts, "
        "comma-separated, the newest last; without one no account can be connected.",
    )
    connector_clients: SecretList = Field(
        (),
        description="What was registered at providers, as `google=CLIENT_ID:CLIENT_SECRET`, comma-separated.",
    )
    connector_urls: CommaList = Field(
        (),
        description="Other addresses of providers, as `stripe=https://HOST`, comma-separated; for emulators.",
    )
    hubspot_winner: Literal["hubspot", "crm"] = Field(
        "hubspot",
        description="Whose value stays where a field was changed at HubSpot and here; the other one is in the report.",
    )
    hubspot_fields: CustomFields = Field(
        {},
        description="Names of HubSpot's properties for custom properties, as JSON: "
        '`{"contact": {"x_tier": "customer_tier"}}`.',
    )
    hubspot_webhook_secrets: SecretList = Field(
        (),
        description="Client secrets of the HubSpot app, comma-separated, which sign its webhooks; "
        "without one they are refused.",
    )
    hubspot_webhook_url: str | None = Field(
        None,
        description="The gateway's `/webhooks/hubspot` as HubSpot calls it, which it signs, too.",
    )
    import_mb: int = Field(256, ge=1, description="Largest file to import, in MB.")
    workflow_webhooks: SecretList = Field(
        (),
        description="Systems that workflows may tell, as `name=https://…`, comma-separated; the address may be secret.",
    )
