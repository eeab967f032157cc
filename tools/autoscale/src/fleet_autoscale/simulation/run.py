"""The loop: serve until something happens, then let the autoscaler, the deployment or a fault act."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fleet_autoscale.simulation.fluid import serve_fluid
from fleet_autoscale.simulation.kernel import (
    COLUMNS,
    GOOD,
    HELD,
    OFFERED,
    SHED,
    Limits,
    World,
    serve,
)
from fleet_autoscale.simulation.metrics import Meter
from fleet_autoscale.simulation.model import Faults, Service
from fleet_autoscale.simulation.pods import Deployment

_TAIL_S = 120  # room in the book for calls that end after the trace
FLUID_CALLS = 2e8
"""Past so many calls (a minute of CPU and more) a run is fluid unless it is asked to be exact."""


@dataclass(frozen=True, slots=True)
class View:
    """What an autoscaler may look at."""

    now_s: float
    meter: Meter
    deployment: Deployment
    held: int
    """Calls that the gateway holds because no pod is ready."""


class Scaler(Protocol):
    """An autoscaler: asked every `period_s`, answers with a replica count."""

    name: str
    period_s: float
    scrape_s: float

    def replicas(self, view: View) -> int:
        """Return the replicas to ask for."""
        ...


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    offered: int
    good: int
    shed: int
    attainable: float
    pod_seconds: float
    oracle_seconds: float
    reversals: int
    """How often growing turned into shrinking or back."""
    pods: NDArray[np.int64]
    """Replicas asked for, by second."""
    cpu_s: float
    is_fluid: bool = False

    @property
    def slo(self) -> float:
        """Return the share of calls within the objective, of those that could be; a shed call is a miss."""
        return self.good / max(self.offered, 1) / self.attainable

    @property
    def accepted_slo(self) -> float:
        """Return the same for the calls that were not shed."""
        return self.good / max(self.offered - self.shed, 1) / self.attainable

    @property
    def cost(self) -> float:
        """Return the pod-seconds, in those of the oracle."""
        return self.pod_seconds / self.oracle_seconds


_NO_FAULTS = Faults()


def simulate(
    service: Service,
    rates: NDArray[np.float64],
    scaler: Scaler,
    *,
    seed: int = 1,
    faults: Faults = _NO_FAULTS,
    is_fluid: bool | None = None,
) -> Result:
    """Run `scaler` on a service under a trace.

    Args:
        service: what is scaled.
        rates: calls per second, one figure a second.
        scaler: a fresh autoscaler; it keeps state.
        seed: of arrivals, service times and balancing; the same seed gives the same run.
        faults: what goes wrong meanwhile.
        is_fluid: whether calls are a stream rather than one by one; None: past `FLUID_CALLS`.
    """
    began = time.process_time()
    horizon = float(len(rates))
    book = np.zeros((len(rates) + _TAIL_S, COLUMNS))
    world = _world(service, rates, seed, faults)
    meter = Meter(book, scaler.scrape_s, faults.metrics_outage, faults.stale_metrics)
    deployment = Deployment(service, full_nodes=faults.full_nodes, node_s=faults.node_s)
    deployment.start_ready(max(service.minimum, int(service.oracle_pods(rates[:1])[0])))
    pods = np.zeros(len(rates), dtype=np.int64)
    engine = serve_fluid if is_fluid or (is_fluid is None and rates.sum() > FLUID_CALLS) else serve
    now, sync, rollout = 0.0, scaler.period_s, faults.rollout_s or math.inf
    while now < horizon:
        end = min(sync, deployment.next_ready_s(now), rollout, horizon)
        engine(now, end, deployment.ready(now), world, deployment.rows, book)
        pods[int(now) : int(end)] = deployment.wanted
        now = end
        if now >= rollout:
            deployment.roll(now)
            rollout = math.inf
        if now >= sync:
            wanted = scaler.replicas(View(now, meter, deployment, int(world.held[0])))
            if wanted != deployment.wanted:
                deployment.scale(wanted, now)
            sync += scaler.period_s
        deployment.step(now)
    deployment.close(horizon)
    return Result(
        offered=round(book[:, OFFERED].sum()),
        good=round(book[:, GOOD].sum()),
        shed=round(book[:, SHED].sum()),
        attainable=service.attainable(),
        pod_seconds=deployment.pod_seconds,
        oracle_seconds=float(service.oracle_pods(rates).sum()),
        reversals=_reversals(pods),
        pods=pods,
        cpu_s=time.process_time() - began,
        is_fluid=engine is serve_fluid,
    )


def _world(service: Service, rates: NDArray[np.float64], seed: int, faults: Faults) -> World:
    slow = np.ones(len(rates) + _TAIL_S)
    if faults.brownout:
        slow[int(faults.brownout[0]) : int(faults.brownout[1])] = faults.brownout_factor
    # One type whatever the caller wrote, else the kernel is compiled again.
    return World(
        limits=Limits(
            slots=service.slots,
            queue=service.queue,
            wait_s=float(service.wait_s),
            slo_s=float(service.slo_s),
            hold_s=float(service.hold_s),
            share=float(service.downstream_share),
            service_s=float(service.service_s),
        ),
        rates=np.ascontiguousarray(rates, dtype=np.float64),
        slow=slow,
        quantiles=service.quantiles(),
        rng=np.array([0x9E3779B97F4A7C15 * (2 * seed + 1) % 2**64], dtype=np.uint64),
        held=np.zeros(HELD + 1),
        connections=np.zeros(service.connections),
        stream=np.zeros(2),
    )


def _reversals(pods: NDArray[np.int64]) -> int:
    moves = np.sign(np.diff(pods))
    moves = moves[moves != 0]
    return int((moves[1:] != moves[:-1]).sum())
