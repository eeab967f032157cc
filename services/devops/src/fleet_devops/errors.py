"""What can go wrong between this service and the systems it asks, as leaves of the fleet's tree.

FleetError
├── InvalidInput
│   └── NotText                 the file is binary, so there are no lines to show
├── NotFound
│   └── Moved                   the repository has another name now
├── RateLimited
│   └── GitHubLimited           GitHub asks us to wait; says which limit and until when
├── Unavailable
│   └── (as it is)              GitHub, the cluster or Prometheus does not answer
├── NotConfigured
│   ├── NoCluster               no kubeconfig and not in a cluster
│   ├── BadKubeconfig           there is a kubeconfig, but it cannot be used
│   └── NoMonitoring            no Prometheus URL
└── UpstreamFailed
    └── CredentialRejected      the service's own credential was refused; the caller can do nothing
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from fleet_common.errors import InvalidInput, NotConfigured, NotFound, RateLimited, UpstreamFailed


class NotText(InvalidInput):
    """Raised when a file has no lines to show."""

    def __init__(self, path: str, size_bytes: int) -> None:
        super().__init__(
            f"{path} is a binary file of {size_bytes} bytes and cannot be shown as text"
        )


class Moved(NotFound):
    """Raised when a repository was renamed or transferred: its new name has to pass the policy first."""

    def __init__(self, repository: str) -> None:
        super().__init__(
            "repository", repository, hint="It has moved: gh_repo_get tells its present name"
        )


class GitHubLimited(RateLimited):
    """Raised instead of waiting when GitHub's primary or secondary limit is reached."""

    def __init__(
        self,
        scope: Literal["primary", "secondary"],
        *,
        retry_after_s: float,
        reset_at: datetime | None = None,
    ) -> None:
        super().__init__(f"GitHub's {scope} rate limit is reached", retry_after_s=retry_after_s)
        self.scope = scope
        self.reset_at = reset_at

    def to_dict(self) -> dict[str, Any]:
        """Return the error with the limit's scope and, when known, the time it is lifted."""
        facts = super().to_dict() | {"scope": self.scope}
        if self.reset_at is not None:
            facts["resetAt"] = self.reset_at.isoformat()
        return facts


class NoCluster(NotConfigured):
    """Raised when the service has been told of no cluster and does not run in one."""

    def __init__(self) -> None:
        super().__init__(
            "no cluster configured",
            hint="The operator sets FLEET_DEVOPS_KUBECONFIG, or runs this service in the cluster",
        )


class BadKubeconfig(NotConfigured):
    """Raised when the kubeconfig is there and cannot be used; why is in the log only."""

    def __init__(self) -> None:
        super().__init__(
            "the cluster's configuration cannot be used",
            hint="The operator checks FLEET_DEVOPS_KUBECONFIG and FLEET_DEVOPS_KUBE_CONTEXT",
        )


class NoMonitoring(NotConfigured):
    """Raised when the service has been told of no Prometheus."""

    def __init__(self) -> None:
        super().__init__(
            "no Prometheus configured", hint="The operator sets FLEET_DEVOPS_PROMETHEUS_URL"
        )


class CredentialRejected(UpstreamFailed):
    """Raised when an upstream refuses the service's own credential."""

    def __init__(self, upstream: str, variable: str) -> None:
        super().__init__(
            f"{upstream} does not accept this service's credential",
            hint=f"The operator checks {variable}",
        )
