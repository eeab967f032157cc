"""Judging a role of somebody else's database: what it must not be able to do, and which protections are missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from fleet_data.databases.models import Standing
from fleet_data.schema.privileges import RolePrivileges

FLOOR = 14
"""The oldest major version of PostgreSQL that is supported."""

_REFUSED = (
    *(
        "superuser",
        "bypassrls",
        "createrole",
        "createdb",
        "replication",
        "create:database",
        "write:*",
    ),
    *("member:pg_read_server_files", "member:pg_write_server_files", "member:pg_write_all_data"),
    *("member:pg_execute_server_program", "member:pg_signal_backend", "member:pg_maintain"),
    *("member:pg_checkpoint", "member:pg_create_subscription", "member:pg_database_owner"),
    *("member:rds_superuser", "member:cloudsqlsuperuser", "member:azure_pg_admin"),
)
_TRANSACTION_TIMEOUT = 17
_NAMED = 5


def standing_of(mine: RolePrivileges) -> Standing:
    """Return what must not be, and what is missing."""
    refused = [each for each in mine.found if any(fnmatchcase(each, glob) for glob in _REFUSED)]
    return Standing(mine.role, refused, list(_missing(mine)))


def _missing(mine: RolePrivileges) -> Iterable[str]:
    if mine.names:
        yield (
            f"the role may use {_some(sorted(mine.names))}: text that names one of them is refused "
            "instead, and a function of your own that calls one is not noticed"
        )
    if "temporary:database" in mine.found:
        yield "the role may create temporary tables; a read-only transaction and the wrap keep callers from it"
    created = [each.partition(":")[2] for each in mine.found if _creates(each)]
    if created:
        yield f"the role may create objects in {', '.join(created)}; a read-only transaction keeps callers from it"
    if "unlimited:temporary_files" in mine.found:
        yield "temp_file_limit is not set for the role: a large sort can fill the disk until its time is over"
    if mine.version < _TRANSACTION_TIMEOUT:
        yield "transaction_timeout needs PostgreSQL 17: only single statements are timed"


def _creates(privilege: str) -> bool:
    return privilege.startswith("create:") and privilege != "create:database"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
