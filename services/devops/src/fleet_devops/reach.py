"""What a caller may reach: the one place that decides about a repository or a namespace, for every tool.

The settings bound the service as a whole, the policy each caller within that. What lies outside looks like what does
not exist, so that a caller cannot learn names by asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import structlog

from fleet_common.errors import NotFound, PermissionDenied
from fleet_common.policy import Grant

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
    """Decides by the service's own globs and by those of each caller.

    Attributes:
        repos: `owner/name` globs, case-insensitive as GitHub is.
        namespaces: namespace globs.
    """

    repos: Sequence[str]
    namespaces: Sequence[str]

    def repository(self, grant: Grant, owner: str, name: str) -> RepoRef:
        """Return the repository, once it is known that the caller may reach it.

        Raises:
            NotFound: it is outside the limits, which looks the same as not being there.
        """
        ref = RepoRef(owner, name)
        allowed = any(fnmatchcase(str(ref).lower(), glob.lower()) for glob in self.repos)
        if not (allowed and grant.reaches_repository(str(ref))):
            raise _refusal(grant, "repository", str(ref))
        return ref

    def namespace(self, grant: Grant, name: str | None) -> NamespaceRef:
        """Return the namespace, once it is known that the caller may reach it.

        The whole cluster (None) is within reach only when every namespace is.

        Raises:
            NotFound: it is outside the limits, which looks the same as not being there.
        """
        allowed = name is not None and any(fnmatchcase(name, glob) for glob in self.namespaces)
        if not (allowed or "*" in self.namespaces) or not grant.reaches_namespace(name):
            raise _refusal(grant, "namespace", name or "*")
        return NamespaceRef(name)

    def metrics(self, grant: Grant) -> None:
        """Return when the caller may ask for any metric: a PromQL text can name every namespace.

        Raises:
            PermissionDenied: the limits leave out some namespace.
        """
        if "*" not in self.namespaces or not grant.reaches_namespace(None):
            log.info("reach_denied", kind="metrics", name="*", subject=grant.principal.subject)
            raise PermissionDenied("metrics span namespaces that are outside your limits")


def _refusal(grant: Grant, kind: str, name: str) -> NotFound:
    who = grant.principal
    log.info("reach_denied", kind=kind, name=name, subject=who.subject, tenant=who.tenant)
    return NotFound(kind, name)
