"""Principals by role."""

from __future__ import annotations

from fleet_common.auth import Principal


def principal(*roles: str, tenant: str = "demo", subject: str = "key:test0001") -> Principal:
    """Return a caller with these roles."""
    return Principal(
        subject=subject,
        tenant=tenant,
        roles=frozenset(roles),
        kind="key",
    )


def admin(tenant: str = "demo") -> Principal:
    """Return a caller who may do everything in `tenant`."""
    return principal("admin", tenant=tenant)


def viewer(tenant: str = "demo") -> Principal:
    """Return a caller who may only read in `tenant`."""
    return principal("viewer", tenant=tenant, subject="key:test0002")
