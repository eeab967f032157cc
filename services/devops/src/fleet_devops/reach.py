"""What a caller may reach: the one place that decides about a repository or a namespace, for every tool.

Limits are globs from the settings today. What lies outside looks like what does not exist, so that a caller
cannot learn names by asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import structlog

from fleet_common.auth import Principal
from fleet_common.errors import NotFound, PermissionDenied

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RepoRef:
    """A repository that the caller may reach. Only `Reach` makes one."""

    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True)
class NamespaceRef:
    """A namespace that the caller may reach; None is the whole cluster. Only `Reach` makes one."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Reach:
    """Decides by globs, case-insensitive for repositories as GitHub is.

    Attributes:
        repos: `owner/name` globs.
        namespaces: namespace globs.
    """

    repos: Sequence[str]
    namespaces: Sequence[str]

    def repository(self, principal: Principal, owner: str, name: str) -> RepoRef:
        """Return the repository, once it is known that `principal` may reach it.

        Raises:
            NotFound: it is outside the limits, which looks the same as not being there.
        """
        ref = RepoRef(owner, name)
        allowed = any(fnmatchcase(str(ref).lower(), glob.lower()) for glob in self.repos)
        if not allowed:
            raise _refusal(principal, "repository", str(ref))
        return ref

    def namespace(self, principal: Principal, name: str | None) -> NamespaceRef:
        """Return the namespace, once it is known that `principal` may reach it.

        The whole cluster (None) is within reach only when every namespace is.

        Raises:
            NotFound: it is outside the limits, which looks the same as not being there.
        """
        allowed = name is not None and any(fnmatchcase(name, glob) for glob in self.namespaces)
        if not allowed and "*" not in self.namespaces:
            raise _refusal(principal, "namespace", name or "*")
        return NamespaceRef(name)

    def metrics(self, principal: Principal) -> None:
        """Return when `principal` may ask for any metric: a PromQL text can name every namespace.

        Raises:
            PermissionDenied: the limits leave out some namespace.
        """
        if "*" not in self.namespaces:
            log.info("reach_denied", kind="metrics", name="*", subject=principal.subject)
            raise PermissionDenied("metrics span namespaces that are outside your limits")


def _refusal(principal: Principal, kind: str, name: str) -> NotFound:
    log.info(
        "reach_denied", kind=kind, name=name, subject=principal.subject, tenant=principal.tenant
    )
    return NotFound(kind, name)
