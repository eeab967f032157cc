"""Every request of a stretch of time, as machine code: arrival, balancing, admission, queue, slot, retry.

A pod is its slots' free times and a ring of the calls that wait. First come, first served: so the start of a
call is known when it arrives, the earliest free slot, and no event heap is needed: one pass over arrivals, millions a
second. A shared downstream hands out its connections in the order in which calls arrive, not in which they start: with
queues before it that is a little pessimistic.

Two ready pods are drawn and the less loaded one gets the call (power of two choices); if it sheds, the gateway tries
the other, once. A pod sheds as `fleet_common.admission` does: queue full, expected wait too long, or waited too long.
Everything a metric needs is booked by second: counters where they happen, gauges as differences.

The functions take arrays one by one and never a tuple of them: each look into such a tuple counts references, which
costs more than the rest of a call.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fleet_autoscale.simulation.compiled import compiled

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bits = NDArray[np.uint64]

# Columns of the book, which has a row a second; then come the histogram's buckets
OFFERED, GOOD, SHED, STARTED, REFUSED, DONE, SERVICE_S, WAITING, INFLIGHT, BUCKETS = range(10)
BOUNDS = np.array([0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0])
"""Histogram buckets of the whole duration, in objectives."""
COLUMNS = BUCKETS + len(BOUNDS) + 1
# Columns of a pod: its ring of waiting calls, its mean time in a slot, when its slots are free, when the waiting leave
HEAD, COUNT, MEAN_S, FREE = range(4)
HELD = 4096
"""Calls the gateway holds at most while no pod is ready."""


class Limits(NamedTuple):
    """What does not change during a run. Times are seconds."""

    slots: int
    queue: int
    wait_s: float
    slo_s: float
    hold_s: float
    share: float
    """Part of the time in a slot that holds a downstream connection."""
    service_s: float
    """Mean time in a slot; only the fluid kernel needs it."""


class World(NamedTuple):
    """What every stretch of a run needs."""

    limits: Limits
    rates: Floats
    """Calls per second, by second."""
    slow: Floats
    """The factor on service times, by second of the start."""
    quantiles: Floats
    rng: Bits
    held: Floats
    """How many calls are held, then when they came."""
    connections: Floats
    """When each downstream connection is free, a heap; empty without a limit."""
    stream: Floats
    """What the fluid kernel carries on: the calls in slots, and those that wait."""


@compiled
def draw(rng: Bits) -> np.uint64:  # pragma: no cover - compiled: coverage cannot see it
    """Return 64 random bits (xorshift64*, Marsaglia 2003, Vigna 2016)."""
    x: np.uint64 = rng[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    rng[0] = x
    return x * np.uint64(2685821657736338717)


@compiled
def uniform(rng: Bits) -> float:  # pragma: no cover - compiled
    """Return a number between 0 and 1, both excluded."""
    return (float(draw(rng) >> np.uint64(11)) + 0.5) / 9007199254740992.0


@compiled
def _gap(rng: Bits, rate: float) -> float:  # pragma: no cover - compiled
    """Return the time to the next arrival, exponentially distributed."""
    if rate <= 0.0:
        return math.inf
    return -math.log(uniform(rng)) / rate


@compiled
def _load(pod: int, t: float, limits: Limits, rows: Floats) -> int:  # pragma: no cover - compiled
    """Return the calls in a pod at `t`, after those that left the queue by then."""
    count, head, leave = int(rows[pod, COUNT]), int(rows[pod, HEAD]), FREE + limits.slots
    if count > 0:
        while count > 0 and rows[pod, leave + head] <= t:
            # No modulo: a division costs as much as the rest of the line.
            head = head + 1 if head + 1 < limits.queue else 0
            count -= 1
        rows[pod, COUNT], rows[pod, HEAD] = count, head
        if count > 0:
            return limits.slots + count
    busy = 0
    for slot in range(FREE, leave):
        busy += rows[pod, slot] > t
    return busy


@compiled
def _downstream(
    start: float, hold_s: float, connections: Floats
) -> float:  # pragma: no cover - compiled
    """Take the connection that is free first for `hold_s`, and return how long that made us wait.

    Connections are a heap by free time: the first is the root, which sinks.
    """
    begin: float = max(start, connections[0])
    value, i, n = begin + hold_s, 0, connections.size
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and connections[child + 1] < connections[child]:
            child += 1
        if connections[child] >= value:
            break
        connections[i] = connections[child]
        i = child
    connections[i] = value
    return begin - start


@compiled
def _queue(  # noqa: PLR0917 - numba calls by position
    pod: int, t: float, start: float, limits: Limits, rows: Floats, book: Floats
) -> bool:  # pragma: no cover - compiled
    """Let a call wait in a pod from `t` to `start`; False when it is shed now or would wait too long."""
    count = int(rows[pod, COUNT])
    expected_s = rows[pod, MEAN_S] * (count + 1) / limits.slots
    if count >= limits.queue or expected_s > limits.wait_s:
        return False
    left = min(start, t + limits.wait_s)
    place = int(rows[pod, HEAD]) + count
    place = place if place < limits.queue else place - limits.queue
    rows[pod, FREE + limits.slots + place] = left
    rows[pod, COUNT] = count + 1
    book[int(t) + 1, WAITING] += 1
    book[min(int(left), book.shape[0] - 2) + 1, WAITING] -= 1
    return start - t <= limits.wait_s


@compiled
def _slot(pod: int, t: float, limits: Limits, rows: Floats) -> int:  # pragma: no cover - compiled
    """Return the first slot that is free at `t`, else the one that is free earliest."""
    best = FREE
    for slot in range(FREE, FREE + limits.slots):
        if rows[pod, slot] <= t:
            return slot
        if rows[pod, slot] < rows[pod, best]:
            best = slot
    return best


@compiled
def _admit(  # noqa: PLR0917
    pod: int,
    born: float,
    t: float,
    work: float,
    limits: Limits,
    slow: Floats,
    connections: Floats,
    rows: Floats,
    book: Floats,
) -> bool:  # pragma: no cover - compiled
    """Give one call to a pod; False when it sheds it."""
    second, last = int(t), book.shape[0] - 2
    book[second, STARTED] += 1
    slot = _slot(pod, t, limits, rows)
    start = t
    if rows[pod, slot] > t:
        start = rows[pod, slot]
        if not _queue(pod, t, start, limits, rows, book):
            book[second, REFUSED] += 1
            return False
    begin = min(int(start), last)
    work *= slow[begin]
    if connections.size > 0:
        work += _downstream(start, limits.share * work, connections)
    finish = start + work
    rows[pod, slot] = finish
    rows[pod, MEAN_S] += 0.1 * (work - rows[pod, MEAN_S])
    done = min(int(finish), last)
    book[begin + 1, INFLIGHT] += 1
    book[done + 1, INFLIGHT] -= 1
    book[done, DONE] += 1
    book[done, SERVICE_S] += work
    limit_s = finish - t
    bucket = 0
    while bucket < BOUNDS.size and limit_s > BOUNDS[bucket] * limits.slo_s:
        bucket += 1
    book[done, BUCKETS + bucket] += 1
    if finish - born <= limits.slo_s:
        book[int(born), GOOD] += 1
    return True


@compiled
def _route(  # noqa: PLR0917
    born: float,
    t: float,
    ready: Ints,
    limits: Limits,
    quantiles: Floats,
    rng: Bits,
    slow: Floats,
    connections: Floats,
    rows: Floats,
    book: Floats,
) -> bool:  # pragma: no cover - compiled
    """Balance one call over the ready pods, and try a second one where the first sheds it."""
    bits, pods = draw(rng), np.uint64(ready.size)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    first = ready[int(((bits & low) * pods) >> half)]
    other = ready[int(((bits >> half) * pods) >> half)]
    if _load(other, t, limits, rows) < _load(first, t, limits, rows):
        first, other = other, first
    work = quantiles[int(draw(rng) >> np.uint64(51))]
    for _ in range(2):
        if _admit(first, born, t, work, limits, slow, connections, rows, book):
            return True
        if first == other:
            return False
        first = other
    return False


@compiled
def _hold(t: float, held: Floats) -> bool:  # pragma: no cover - compiled
    """Keep a call at the gateway until a pod is ready; False when it holds too many."""
    if held[0] + 1 >= held.size:
        return False
    held[0] += 1
    held[int(held[0])] = t
    return True


@compiled
def serve(  # noqa: PLR0917
    t: float, end: float, ready: Ints, world: World, rows: Floats, book: Floats
) -> None:  # pragma: no cover - compiled
    """Serve every call that arrives from `t` to `end` on the `ready` rows, and before them those held back."""
    limits, rates, slow, quantiles, rng = (
        world.limits,
        world.rates,
        world.slow,
        world.quantiles,
        world.rng,
    )
    held, connections = world.held, world.connections
    waiting = int(held[0]) if ready.size > 0 else 0
    for i in range(1, waiting + 1):
        is_late = t - held[i] > limits.hold_s
        if is_late or not _route(
            held[i], t, ready, limits, quantiles, rng, slow, connections, rows, book
        ):
            book[int(held[i]), SHED] += 1
    held[0] -= waiting
    while t < end:
        second = int(t)
        boundary = min(float(second + 1), end)
        t += _gap(rng, rates[second])
        if t >= boundary:
            # No memory: a gap that passes the second's end is drawn anew with the next second's rate.
            t = boundary
            continue
        book[second, OFFERED] += 1
        if ready.size == 0:
            if not _hold(t, held):
                book[second, SHED] += 1
        elif not _route(t, t, ready, limits, quantiles, rng, slow, connections, rows, book):
            book[second, SHED] += 1
