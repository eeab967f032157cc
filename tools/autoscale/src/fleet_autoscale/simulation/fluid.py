"""The same fleet as a stream: what a fraction of a second brings, not what each call does.

For days of a billion calls and thousands of pods, where single calls do not show. It fills the same book as the kernel,
so metrics, autoscalers and pods are the same. It leaves out that pods may be unequally loaded, calls held while no pod
is ready (they are shed), and chance in service times. `tests/simulation/test_fluid.py` holds it to the exact one.
"""

from __future__ import annotations

import math

import numpy as np

from fleet_autoscale.simulation.compiled import compiled
from fleet_autoscale.simulation.kernel import (
    BOUNDS,
    BUCKETS,
    DONE,
    GOOD,
    INFLIGHT,
    OFFERED,
    REFUSED,
    SERVICE_S,
    SHED,
    STARTED,
    WAITING,
    Bits,
    Floats,
    Ints,
    Limits,
    World,
    uniform,
)

_STEP_S = (
    0.1  # at most; and a quarter of the time in a slot, else a step would end calls that it starts
)


@compiled
def _normal(rng: Bits) -> float:  # pragma: no cover - compiled
    """Return a normal deviate (Box and Muller, 1958)."""
    return math.sqrt(-2.0 * math.log(uniform(rng))) * math.cos(2.0 * math.pi * uniform(rng))


@compiled
def _share_within(limit_s: float, quantiles: Floats) -> float:  # pragma: no cover - compiled
    """Return the share of calls whose time in a slot is at most `limit_s`."""
    return float(np.searchsorted(quantiles, limit_s) / quantiles.size)


@compiled
def _write_times(  # noqa: PLR0917 - numba calls by position
    row: Floats, calls: float, waited_s: float, slower: float, limits: Limits, quantiles: Floats
) -> None:  # pragma: no cover - compiled
    """Book how long `calls` took, in the histogram's buckets."""
    below = 0.0
    for bucket in range(BOUNDS.size):
        share = _share_within((BOUNDS[bucket] * limits.slo_s - waited_s) / slower, quantiles)
        row[BUCKETS + bucket] += calls * (share - below)
        below = share
    row[BUCKETS + BOUNDS.size] += calls * (1.0 - below)


@compiled
def _step(  # noqa: PLR0917
    row: Floats,
    arrived: float,
    step_s: float,
    slow: float,
    pods: int,
    connections: int,
    stream: Floats,
    limits: Limits,
    quantiles: Floats,
) -> None:  # pragma: no cover - compiled
    """Let calls end, start, wait and be shed for `step_s`."""
    busy, waiting = stream[0], stream[1]
    mean_s, slots = limits.service_s * slow, float(pods * limits.slots)
    rate = min(busy, slots) / mean_s
    if connections > 0:
        rate = min(rate, connections / (limits.share * mean_s))
    spent_s = max(mean_s, busy / rate) if rate > 0.0 else mean_s
    done = min(busy, rate * step_s)
    # When all slots are taken, the last in line waits until as many have left as are before it.
    leaving = slots / spent_s
    total = waiting + arrived
    started = min(total, max(0.0, slots - busy + done))
    shed = max(0.0, total - started - min(float(pods * limits.queue), limits.wait_s * leaving))
    waiting = total - started - shed
    waited_s = waiting / leaving if leaving > 0.0 else 0.0
    slower = spent_s / limits.service_s
    tries = 2.0 if pods > 1 else 1.0
    row[OFFERED] += arrived
    row[SHED] += shed
    row[STARTED] += arrived + shed * (tries - 1.0)
    row[REFUSED] += shed * tries
    row[DONE] += done
    row[SERVICE_S] += done * spent_s
    within = _share_within((limits.slo_s - waited_s) / slower, quantiles)
    row[GOOD] += max(0.0, arrived - shed) * within
    _write_times(row, done, waited_s, slower, limits, quantiles)
    stream[0], stream[1] = busy - done + started, waiting


@compiled
def serve_fluid(
    t: float, end: float, ready: Ints, world: World, _rows: Floats, book: Floats
) -> None:  # pragma: no cover - compiled
    """Serve what arrives from `t` to `end` with as many pods as are `ready`."""
    limits, stream, quantiles, rng = world.limits, world.stream, world.quantiles, world.rng
    longest_s = min(_STEP_S, limits.service_s / 4.0)
    while t < end:
        second = int(t)
        boundary = min(float(second + 1), end)
        steps = math.ceil((boundary - t) / longest_s)
        step_s = (boundary - t) / steps
        expected, slow = world.rates[second] * step_s, world.slow[second]
        busy, waiting = stream[0], stream[1]
        for _ in range(steps):
            arrived = max(0.0, expected + math.sqrt(expected) * _normal(rng))
            _step(
                book[second],
                arrived,
                step_s,
                slow,
                ready.size,
                world.connections.size,
                stream,
                limits,
                quantiles,
            )
        book[second + 1, INFLIGHT] += stream[0] - busy
        book[second + 1, WAITING] += stream[1] - waiting
        t = boundary
