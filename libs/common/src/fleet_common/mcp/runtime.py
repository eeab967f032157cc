"""What one process shares between its doors, its middleware and its features."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from fleet_common.approvals import Approvals
from fleet_common.audit import AuditLog, create_audit
from fleet_common.auth.configured import create_oauth
from fleet_common.auth.oauth import OAuth
from fleet_common.auth.usage import KeyUsage
from fleet_common.cache import Cache
from fleet_common.health import Health
from fleet_common.limits import CallLimits
from fleet_common.metrics import Metrics
from fleet_common.policy import PolicyFile
from fleet_common.redis import Redis, create_redis
from fleet_common.settings import ServiceSettings
from fleet_common.switches import Switches
from fleet_common.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Runtime:
    """The shared parts. Creating it does no input or output; `opened` does.

    Attributes:
        redis: None when no Redis is configured: one process, nothing shared.
        cache: answers kept in that Redis.
        policy: who may do what, as of now.
        oauth: None without an authorization server: fleet keys only.
        limits: how often.
        switches: what the operators have switched off.
    """

    service: str
    metrics: Metrics
    health: Health
    redis: Redis | None
    cache: Cache
    policy: PolicyFile
    approvals: Approvals
    tracing: Tracing
    oauth: OAuth | None
    key_usage: KeyUsage
    audit: AuditLog
    limits: CallLimits
    switches: Switches

    @classmethod
    def create(cls, service: str, version: str, settings: ServiceSettings) -> Runtime:
        """Return a fresh runtime for `service`.

        Raises:
            SettingsError: OAuth is configured by half.
        """
        url = settings.redis_url
        metrics, health = Metrics(service, version), Health()
        tracing = Tracing(settings, metrics, version)
        redis = create_redis(url.get_secret_value(), traced=tracing.is_wanted) if url else None
        policy = PolicyFile(settings.policy_file)
        audit = create_audit(service, settings)
        return cls(
            service=service,
            metrics=metrics,
            health=health,
            redis=redis,
            cache=Cache(redis, metrics),
            policy=policy,
            limits=CallLimits.create(
                service, policy, redis, replicas=settings.replicas, metrics=metrics, health=health
            ),
            switches=Switches(redis, service, metrics=metrics, health=health, audit=audit),
            approvals=Approvals.create(settings, redis),
            tracing=tracing,
            oauth=create_oauth(settings, redis, policy, metrics),
            key_usage=KeyUsage(redis),
            audit=audit,
        )

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Run what the parts need in the background while the block runs, and close them after it."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.tracing.opened())
            if self.redis is not None:
                stack.push_async_callback(self.redis.aclose, close_connection_pool=True)
            await stack.enter_async_context(self.policy.followed())
            await stack.enter_async_context(self.key_usage.written())
            if self.oauth is not None:
                await stack.enter_async_context(self.oauth.opened())
            await stack.enter_async_context(self.audit.opened())
            await stack.enter_async_context(self.limits.running())
            await stack.enter_async_context(self.switches.followed())
            yield
