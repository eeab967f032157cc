"""What the service's features stand on, opened once for the life of the process."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_common.mcp import CurrentDeps, CurrentGrant
from fleet_common.policy import Grant
from fleet_data.caching.service import Records
from fleet_data.campaigns.service import Campaigns
from fleet_data.claims import Caller
from fleet_data.connectors.connecting import Connections
from fleet_data.connectors.credentials import Credentials
from fleet_data.connectors.hubspot.service import HubSpotSync
from fleet_data.crm.service import Crm
from fleet_data.databases.service import Databases
from fleet_data.history.service import History
from fleet_data.mail.service import Post
from fleet_data.pipeline.service import Pipeline
from fleet_data.pool import Database
from fleet_data.relations.service import Relations
from fleet_data.schema.checks import Privileges
from fleet_data.scoring.service import Scoring
from fleet_data.segments.service import Segments
from fleet_data.transfer.imports import Imports
from fleet_data.transfer.service import Exports
from fleet_data.workflows.service import Workflows


@dataclass(frozen=True, slots=True)
class Deps:
    """The dependencies of the tools and of readiness.

    Attributes:
        database: for connectors that keep rows of their own; other features have a repository.
    """

    crm: Crm
    history: History
    databases: Databases
    scoring: Scoring
    privileges: Privileges
    exports: Exports
    imports: Imports
    post: Post
    campaigns: Campaigns
    workflows: Workflows
    relations: Relations
    segments: Segments
    records: Records
    pipeline: Pipeline
    credentials: Credentials
    database: Database
    connections: Connections
    hubspot: HubSpotSync


def get_crm(deps: Deps = CurrentDeps()) -> Crm:
    """Return the CRM."""
    return deps.crm


def get_history(deps: Deps = CurrentDeps()) -> History:
    """Return the past of the CRM's records."""
    return deps.history


def get_databases(deps: Deps = CurrentDeps()) -> Databases:
    """Return the databases that SQL may be run on."""
    return deps.databases


def get_exports(deps: Deps = CurrentDeps()) -> Exports:
    """Return the exports."""
    return deps.exports


def get_post(deps: Deps = CurrentDeps()) -> Post:
    """Return the mail."""
    return deps.post


def get_campaigns(deps: Deps = CurrentDeps()) -> Campaigns:
    """Return the campaigns."""
    return deps.campaigns


def get_credentials(deps: Deps = CurrentDeps()) -> Credentials:
    """Return the connected accounts."""
    return deps.credentials


def get_hubspot(deps: Deps = CurrentDeps()) -> HubSpotSync:
    """Return the sync with HubSpot."""
    return deps.hubspot


def get_pipeline(deps: Deps = CurrentDeps()) -> Pipeline:
    """Return the selling."""
    return deps.pipeline


def get_records(deps: Deps = CurrentDeps()) -> Records:
    """Return the kept records."""
    return deps.records


def get_relations(deps: Deps = CurrentDeps()) -> Relations:
    """Return how records hang together."""
    return deps.relations


def get_segments(deps: Deps = CurrentDeps()) -> Segments:
    """Return the segments."""
    return deps.segments


def get_imports(deps: Deps = CurrentDeps()) -> Imports:
    """Return the imports."""
    return deps.imports


def get_workflows(deps: Deps = CurrentDeps()) -> Workflows:
    """Return the workflows."""
    return deps.workflows


def get_scoring(deps: Deps = CurrentDeps()) -> Scoring:
    """Return what scores leads."""
    return deps.scoring


def get_caller(grant: Grant = CurrentGrant()) -> Caller:
    """Return on whose behalf the call runs; the tenant comes from the credential and from nowhere else."""
    who = grant.principal
    return Caller(tenant=who.tenant, subject=who.subject, masks=grant.masks)
