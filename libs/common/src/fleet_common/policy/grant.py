"""How much of an allowed call: what features read to keep a caller within rows, repositories, namespaces, masks.

Only the roles that allow the call count, and of those the most generous: a second role for another domain
neither widens nor narrows what the first one sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet_common.auth.principal import Principal
from fleet_common.policy.decision import first_match
from fleet_common.policy.models import Role


@dataclass(frozen=True, slots=True)
class Grant:
    """The caller of one call, and how far it reaches.

    Attributes:
        principal: the verified caller.
        scopes: what the roles grant, within what the credential allows.
        max_rows: most rows of one answer; None for no limit of the caller's own.
        repositories: globs of `owner/name`.
        namespaces: globs of Kubernetes namespaces.
        databases: globs of further databases.
        masks: fields to hide, as `email` or `contact.email`.
    """

    principal: Principal
    scopes: frozenset[str] = frozenset()
    max_rows: int | None = None
    repositories: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    masks: frozenset[str] = frozenset()

    @classmethod
    def of(cls, principal: Principal, roles: Sequence[Role]) -> Grant:
        """Return what `roles`, the ones that allow the call, grant together; none grants nothing."""
        if not roles:
            return cls(principal)
        scopes = frozenset[str]().union(*(role.scopes for role in roles))
        rows = [role.max_rows for role in roles]
        return cls(
            principal=principal,
            scopes=scopes if principal.scopes is None else scopes & principal.scopes,
            max_rows=None if None in rows else max(r for r in rows if r),
            repositories=_union(role.repositories for role in roles),
            namespaces=_union(role.namespaces for role in roles),
            databases=_union(role.databases for role in roles),
            masks=frozenset[str].intersection(*(role.masks for role in roles)),
        )

    def rows(self, asked: int) -> int:
        """Return how many rows an answer may have when `asked` were wanted."""
        return asked if self.max_rows is None else min(asked, self.max_rows)

    def reaches_repository(self, full_name: str) -> bool:
        """Return whether `owner/name` is within reach; case means nothing, as at GitHub."""
        lowered = (glob.lower() for glob in self.repositories)
        return first_match(lowered, full_name.lower()) is not None

    def reaches_namespace(self, name: str | None) -> bool:
        """Return whether a namespace is within reach; None is the whole cluster, which needs the glob `*`."""
        return "*" in self.namespaces if name is None else bool(first_match(self.namespaces, name))

    def reaches_database(self, name: str) -> bool:
        """Return whether a database besides the service's own is within reach."""
        return first_match(self.databases, name) is not None


def _union(globs: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(glob for each in globs for glob in each))
