"""Health: what the orchestrator may know, at a cost that does not grow with how often it asks.

Liveness is static, because a restart does not bring a dependency back. Readiness asks every
dependency at once, each with its own deadline, and keeps a good answer for a second, a bad one for a tenth;
callers that come together share one round of probes. Startup is the first readiness that succeeded, latched.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from fleet_common.clock import Clock
from fleet_common.errors import FleetError
from fleet_common.metrics import Metrics

log = structlog.get_logger()

_FAILURE_KEPT_S = 0.1  # who waits for us to become ready should not wait for a memory


@dataclass(frozen=True, slots=True)
class Check:
    """A dependency that must answer before this process takes calls.

    Attributes:
        name: how the report calls it, such as "postgres".
        probe: returns when the dependency is usable and raises when it is not.
        timeout_s: after this the dependency counts as unusable.
    """

    name: str
    probe: Callable[[], Awaitable[None]]
    timeout_s: float = 1.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one probe said; `error` is a stable code or a class name, never the error's text."""

    ok: bool
    ms: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The answer to one question of the orchestrator; safe to show to anybody."""

    ok: bool
    checks: Mapping[str, CheckResult] = field(default_factory=dict)
    draining: bool = False
    degraded: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the answer: `{"ok", "draining", "degraded": [], "checks": {name: {ok, ms, error}}}`."""
        checks = {
            name: {"ok": result.ok, "ms": result.ms, "error": result.error}
            for name, result in self.checks.items()
        }
        return {
            "ok": self.ok,
            "draining": self.draining,
            "degraded": list(self.degraded),
            "checks": checks,
        }


class Health:
    """The health of one process.

    Attributes:
        draining: set it at shutdown; readiness turns false at once, whatever the checks say.
        degraded: what works only in part; shown in every report, without a say in readiness.
    """

    def __init__(
        self, checks: Iterable[Check] = (), *, cache_s: float = 1.0, clock: Clock = time.monotonic
    ) -> None:
        self.draining = False
        self.degraded: set[str] = set()
        self._checks = tuple(checks)
        self._cache_s = cache_s
        self._clock = clock
        self._results: dict[str, CheckResult] = {}
        self._fresh_until = float("-inf")
        self._probing = asyncio.Lock()
        self._started = False

    def watch(self, checks: Iterable[Check]) -> None:
        """Ask these checks from now on, in place of the earlier ones.

        What can be probed is known only once the dependencies are open.
        """
        self._checks = tuple(checks)
        self._fresh_until = float("-inf")

    def export(self, metrics: Metrics) -> None:
        """Add `mcp_check_ok{check}`: what readiness found last; NaN until it was asked."""
        for check in self._checks:
            metrics.gauge_at_scrape(
                "mcp_check_ok",
                "1 while a check of readiness passes.",
                partial(self._found, check.name),
                {"check": check.name},
            )

    def _found(self, name: str) -> float:
        result = self._results.get(name)
        return math.nan if result is None else float(result.ok)

    def liveness(self) -> HealthReport:
        """Return ok: the loop runs, or nobody would be answering."""
        return HealthReport(ok=True, draining=self.draining)

    async def report(self) -> HealthReport:
        """Return readiness: every check passed within its deadline, and we are not draining."""
        if self.draining:
            return self._report(ok=False)
        # A lock, not a shared task: when the caller that probes goes away, the next one takes over.
        async with self._probing:
            if self._clock() >= self._fresh_until:
                self._results = await self._probe_all()
                kept_s = self._cache_s if self._all_ok() else min(self._cache_s, _FAILURE_KEPT_S)
                self._fresh_until = self._clock() + kept_s
        ok = self._all_ok()
        self._started = self._started or ok
        return self._report(ok=ok and not self.draining)

    async def startup(self) -> HealthReport:
        """Return readiness until it has been ok once, and ok ever after."""
        if self._started:
            return self._report(ok=True)
        return await self.report()

    def _report(self, *, ok: bool) -> HealthReport:
        return HealthReport(ok, self._results, self.draining, tuple(sorted(self.degraded)))

    def _all_ok(self) -> bool:
        return all(result.ok for result in self._results.values())

    async def _probe_all(self) -> dict[str, CheckResult]:
        async with asyncio.TaskGroup() as group:
            tasks = {
                check.name: group.create_task(self._probe(check), name=f"probe-{check.name}")
                for check in self._checks
            }
        return {name: task.result() for name, task in tasks.items()}

    async def _probe(self, check: Check) -> CheckResult:
        began = self._clock()
        failure: Exception | None = None
        try:
            async with asyncio.timeout(check.timeout_s):
                await check.probe()
        except Exception as exc:  # noqa: BLE001 - whatever a driver raises means "not ready"
            failure = exc
        ms = round((self._clock() - began) * 1000, 1)
        result = CheckResult(failure is None, ms, _code(failure) if failure else None)
        self._log_change(check.name, result, failure)
        return result

    def _log_change(self, name: str, result: CheckResult, failure: Exception | None) -> None:
        before = self._results.get(name)
        if not result.ok and (before is None or before.ok):
            log.warning("dependency_lost", check=name, error=result.error, exc_info=failure)
        elif result.ok and before is not None and not before.ok:
            log.info("dependency_back", check=name)


def _code(failure: Exception) -> str:
    if isinstance(failure, FleetError):
        return failure.code
    return "timeout" if isinstance(failure, TimeoutError) else type(failure).__name__
