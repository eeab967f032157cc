"""Opens what the tools work with: one pooled client per upstream.

None is asked for anything at the start, and readiness asks none: while GitHub is away, the cluster can still be
read. A call that needs an upstream says when it is away, and the metrics show it by dependency.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from fleet_common.http import TRANSIENT_STATUSES, RetryPolicy, open_client
from fleet_common.mcp import Runtime
from fleet_devops.cluster.client import KubeClient
from fleet_devops.cluster.service import Cluster
from fleet_devops.deps import Deps
from fleet_devops.github.cache import EtagCache
from fleet_devops.github.client import GitHubClient
from fleet_devops.github.events import GitHubEvents
from fleet_devops.github.service import GitHub
from fleet_devops.monitoring.client import PrometheusClient
from fleet_devops.monitoring.service import Monitoring
from fleet_devops.reach import Reach
from fleet_devops.settings import DevopsSettings


@asynccontextmanager
async def open_deps(settings: DevopsSettings, runtime: Runtime) -> AsyncGenerator[Deps]:
    """Open the clients for the life of the process."""
    reach = Reach(settings.github_repos, settings.k8s_namespaces)
    async with AsyncExitStack() as stack:
        github = await _open_github(settings, runtime, stack)
        kube = KubeClient.open(
            kubeconfig=settings.kubeconfig,
            context=settings.kube_context,
            timeout_s=settings.upstream_timeout_s,
        )
        prometheus = await _open_prometheus(settings, runtime, stack)
        yield Deps(
            github=GitHub(github, reach),
            github_events=GitHubEvents(runtime.metrics),
            cluster=Cluster(
                await stack.enter_async_context(kube), reach, digest_key=_digest_key(settings)
            ),
            monitoring=Monitoring(prometheus, reach),
        )


async def _open_github(
    settings: DevopsSettings, runtime: Runtime, stack: AsyncExitStack
) -> GitHubClient:
    http = open_client(
        name="github",
        base_url=settings.github_api_url,
        timeout_s=settings.upstream_timeout_s,
        # A 429 must not be sent again before GitHub says so: that lengthens the limit.
        retry=RetryPolicy(statuses=TRANSIENT_STATUSES),
        metrics=runtime.metrics,
    )
    return GitHubClient(
        await stack.enter_async_context(http),
        token=settings.github_token,
        cache=EtagCache(settings.github_cache_bytes),
    )


async def _open_prometheus(
    settings: DevopsSettings, runtime: Runtime, stack: AsyncExitStack
) -> PrometheusClient | None:
    if settings.prometheus_url is None:
        return None
    http = open_client(
        name="prometheus",
        base_url=settings.prometheus_url,
        timeout_s=settings.upstream_timeout_s,
        metrics=runtime.metrics,
    )
    return PrometheusClient(
        await stack.enter_async_context(http),
        token=settings.prometheus_token,
        timeout_s=settings.upstream_timeout_s,
    )


def _digest_key(settings: DevopsSettings) -> bytes:
    if settings.digest_key is not None:
        return settings.digest_key.get_secret_value().encode()
    return secrets.token_bytes(32)
