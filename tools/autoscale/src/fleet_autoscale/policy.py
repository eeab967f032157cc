"""The scaling policy: one file, typed, and checked against what the services' databases can bear."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_autoscale.hpa import Behavior, Rate, Rules

DEFAULT_PATH = Path(__file__).with_name("policy.yaml")
UP_TOLERANCE = 0.05
"""Growing late costs calls, growing early a pod for a few minutes."""
SURGE = 1.25
"""A rolling update runs a quarter more pods than there should be: a Deployment's default maxSurge."""
HOLD_S = 30.0
"""How long the gateway holds a call while no pod is ready (FLEET_GATEWAY_HOLD_S)."""
POLL_S = 5
"""Between two looks of KEDA at a service that has no pod."""

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")]


class BadPolicy(Exception):
    """Raised when a policy file is wrong; the message names the place."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Database(_Part):
    """A database that services share."""

    connections: Count
    reserved: int = Field(ge=0)
    """Kept for migrations, backups and people."""


class Pool(_Part):
    """The connections that every pod of a service opens at most, over all its pools."""

    database: Name
    size: Count


class Measured(_Part):
    """What a pod of the service was seen to need; docs/scaling.md says how to measure it."""

    service_s: Positive
    """Mean time of a call in its slot."""
    cpu_s: Positive
    """CPU of a call."""
    start_s: Positive
    """From the decision to a ready pod."""
    idle_mib: Positive
    call_mib: Positive
    """What one more call at once adds."""


class Demand(_Part):
    """How many slots the traffic needs: arrivals x time in a slot (Little's law), and what waits."""

    utilization: float = Field(gt=0, lt=1)
    """Part of the slots to plan with; the rest absorbs bursts."""
    drain_s: Positive
    """Time in which the calls that wait should be worked off."""
    slowdown: float = Field(ge=1)
    """Longest time in a slot to believe, in `service_s`: past it a downstream is slow, and pods do not help."""


class Engine(_Part):
    """A model with a queue of its own inside each pod of the service."""

    tokens_per_s: Positive
    """Of one pod."""
    drain_s: Positive
    """Time in which the tokens that wait should be worked off."""


class Worker(_Part):
    """Processes that work off the service's queue of tasks."""

    tasks: Count
    """Tasks that one of them runs at once (FLEET_<SERVICE>_TASKS_CONCURRENCY)."""
    ceiling: Count


class Objectives(_Part):
    """What callers are promised over a month, as shares of their calls; alerts watch how fast the rest is used up."""

    available: float = Field(gt=0.9, lt=1)
    """End with an answer: not shed, not failed for want of something of ours."""
    fast: float = Field(gt=0.9, lt=1)
    """End within `slo_s`, waiting included."""


class Up(_Part):
    """How fast to grow."""

    window_s: int = Field(ge=0)
    percent: Count
    pods: Count
    period_s: Count


class Down(_Part):
    """How fast to shrink."""

    window_s: int = Field(ge=0)
    percent: Count
    period_s: Count


class ServicePolicy(_Part):
    """One service: what was measured, its objective, its bounds and its behavior."""

    measured: Measured
    slots: Count
    queue: Count
    slo_s: Positive
    objectives: Objectives
    floor: Count
    ceiling: Count
    idle_s: Count | None = None
    """Without a call for so long the service goes to zero pods, where KEDA scales it; None: it never does."""
    pool: Pool | None = None
    worker: Worker | None = None
    engine: Engine | None = None
    demand: Demand
    up: Up
    down: Down

    @property
    def wait_s(self) -> float:
        """Return the longest wait that still leaves time to answer: the objective less the time of a typical call."""
        return max(self.slo_s - self.measured.service_s, self.measured.service_s)

    @property
    def rate(self) -> float:
        """Return the calls per second that a pod is planned for."""
        return self.slots * self.demand.utilization / self.measured.service_s

    @property
    def cpu_cores(self) -> float:
        """Return the CPU that a pod needs at the planned rate."""
        return self.rate * self.measured.cpu_s

    @property
    def memory_mib(self) -> int:
        """Return the memory a pod may need with all slots and its queue full, and a quarter, in steps of 32."""
        full = self.measured.idle_mib + (self.slots + self.queue) * self.measured.call_mib
        return math.ceil(full * 1.25 / 32) * 32

    def behavior(self) -> Behavior:
        """Return the HPA's behavior."""
        grow = (
            Rate("Percent", self.up.percent, self.up.period_s),
            Rate("Pods", self.up.pods, self.up.period_s),
        )
        shrink = (Rate("Percent", self.down.percent, self.down.period_s),)
        return Behavior(
            Rules(self.up.window_s, grow, tolerance=UP_TOLERANCE),
            Rules(self.down.window_s, shrink),
        )


class Policy(_Part):
    """The whole file."""

    namespace: Name = "mcp-fleet"
    """Whose series KEDA reads."""
    prometheus: str = Field("http://prometheus-operated.monitoring:9090", pattern=r"^https?://")
    databases: dict[Name, Database] = Field(default_factory=dict)
    services: dict[Name, ServicePolicy]

    def maximum(self, name: str) -> int:
        """Return a service's maxReplicas: its ceiling, or fewer where an equal share of its database allows no more.

        A rolling update's surge and the service's workers are counted.
        """
        service = self.services[name]
        if service.pool is None:
            return service.ceiling
        database = self.databases[service.pool.database]
        sharing = [
            each
            for each in self.services.values()
            if each.pool and each.pool.database == service.pool.database
        ]
        share = (database.connections - database.reserved) // len(sharing)
        pods = share // service.pool.size
        workers = math.ceil(service.worker.ceiling * SURGE) if service.worker else 0
        return min(service.ceiling, math.floor((pods - workers) / SURGE))

    def connections(self, name: str) -> int:
        """Return the connections that a service opens at most: all pods, all workers, in a rolling update."""
        service = self.services[name]
        if service.pool is None:
            return 0
        workers = math.ceil(service.worker.ceiling * SURGE) if service.worker else 0
        return (math.ceil(self.maximum(name) * SURGE) + workers) * service.pool.size

    def problems(self) -> list[str]:
        """Return why this policy must not be deployed; empty when it may."""
        unknown = [
            f"services.{name}.pool.database: there is no database {each.pool.database!r}"
            for name, each in self.services.items()
            if each.pool and each.pool.database not in self.databases
        ]
        return unknown or [problem for name in self.services for problem in self._problems_of(name)]

    def _problems_of(self, name: str) -> list[str]:
        service, maximum = self.services[name], self.maximum(name)
        measured = service.measured
        all_slots_cores = service.slots / measured.service_s * measured.cpu_s
        last_waits_s = service.queue * measured.service_s / service.slots
        wakes_late = service.idle_s is not None and measured.start_s + POLL_S > HOLD_S
        found = [
            (
                maximum < service.floor,
                f": the database allows {maximum} pods, the floor is {service.floor}",
            ),
            (service.slo_s <= measured.service_s, ".slo_s: shorter than the mean time in a slot"),
            (
                last_waits_s > service.slo_s,
                ".queue: the last in line waits longer than the objective",
            ),
            (
                all_slots_cores > 1,
                f".slots: in use they take {all_slots_cores:.1f} cores, and a pod is one process",
            ),
            (
                wakes_late,
                f".idle_s: the first pod comes later than the {HOLD_S:.0f} s that calls are held",
            ),
        ]
        return [f"services.{name}{text}" for is_wrong, text in found if is_wrong]


def load(path: Path = DEFAULT_PATH) -> Policy:
    """Return the policy of a file.

    Raises:
        BadPolicy: it cannot be read, does not fit the model, or must not be deployed.
    """
    try:
        policy = Policy.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as exc:
        message = f"{path}: {exc}"
        raise BadPolicy(message) from exc
    if problems := policy.problems():
        raise BadPolicy("\n".join(problems))
    return policy
