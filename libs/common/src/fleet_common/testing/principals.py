"""Principals by role, and what a role grants them."""

from __future__ import annotations

from typing import Any

from fleet_common.auth import Principal
from fleet_common.policy import Grant, Role


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


def granted(caller: Principal | None = None, **limits: Any) -> Grant:
    """Return what a role with these fields grants a caller, a viewer by default; no limits reach everything."""
    return Grant.of(caller or viewer(), [Role.model_validate(limits)])
