"""Traffic: calls per second, one figure a second; made, or recorded by Prometheus or in a CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Trace = NDArray[np.float64]
Maker = Callable[[int, float, int], Trace]
"""Makes traffic of so many seconds around a base rate from a seed."""


class BadTrace(Exception):
    """Raised when a file is no trace; the message says where."""


def diurnal(
    seconds: int, base: float, seed: int, *, low: float = 0.2, sigma: float = 0.08
) -> Trace:
    """Return a day squeezed into `seconds`: from a part `low` of the peak up and down again, with noise."""
    t = np.arange(seconds) / seconds
    day = (1 + low) / 2 - (1 - low) / 2 * np.cos(2 * math.pi * t)
    return base * 2.0 * day * _noise(seconds, sigma, 60.0, seed)


def step(seconds: int, base: float, seed: int, *, height: float = 4.5) -> Trace:
    """Return traffic that grows `height`-fold from one second to the next, and stays for half of the time."""
    rates = np.full(seconds, base * 0.6)
    rates[seconds // 4 : 3 * seconds // 4] *= height
    return rates * _noise(seconds, 0.05, 30.0, seed)


def spike(
    seconds: int,
    base: float,
    seed: int,
    *,
    height: float = 5.0,
    long_s: int = 120,
    every_s: int = 3600,
) -> Trace:
    """Return steady traffic with spikes: up to `height` within 30 seconds, and `long_s` long."""
    since = (np.arange(seconds) + every_s // 2) % every_s
    up = np.clip(since / 30.0, 0.0, 1.0) * (since < long_s + 30)
    return base * (1.0 + (height - 1.0) * up) * _noise(seconds, 0.05, 30.0, seed)


def bursty(
    seconds: int, base: float, seed: int, *, sigma: float = 0.4, memory_s: float = 300.0
) -> Trace:
    """Return traffic that wanders: log-normal, and forgetting within `memory_s`."""
    return base * _noise(seconds, sigma, memory_s, seed)


def ramp(seconds: int, base: float, seed: int, *, height: float = 4.0) -> Trace:
    """Return traffic that grows steadily to `height`-fold over half of the time, and falls at once."""
    grown = np.interp(np.arange(seconds), [0, seconds * 0.2, seconds * 0.7], [1.0, 1.0, height])
    grown[int(seconds * 0.8) :] = 1.0
    return base * 0.6 * grown * _noise(seconds, 0.05, 30.0, seed)


def stairs(seconds: int, base: float, seed: int) -> Trace:
    """Return traffic that climbs and descends in jumps of two thirds of the base."""
    heights = np.array([0.6, 1.2, 1.9, 2.5, 1.9, 1.2, 0.6])
    places = np.minimum(np.arange(seconds) * len(heights) // seconds, len(heights) - 1)
    rates: Trace = base * heights[places] * _noise(seconds, 0.05, 30.0, seed)
    return rates


def shift(seconds: int, base: float, seed: int) -> Trace:
    """Return a day that wanders and has a spike to the double in the middle of its peak."""
    wandering = diurnal(seconds, 1.0, seed, low=0.3) * bursty(seconds, 1.0, seed + 1000, sigma=0.2)
    return base * wandering * spike(seconds, 1.0, seed + 2000, height=2.0, every_s=seconds)


TRACES: dict[str, Maker] = {
    "diurnal": diurnal,
    "step": step,
    "spike": spike,
    "bursty": bursty,
    "ramp": ramp,
    "stairs": stairs,
    "shift": shift,
}


def replay(path: Path) -> Trace:
    """Return recorded traffic.

    Args:
        path: `*.json`, the answer of Prometheus to `query_range` (its series are summed), or a CSV whose first column
            is seconds (any origin) and whose second is calls per second; a heading is skipped.

    Between two samples the figure is interpolated.

    Raises:
        BadTrace: what is no number, a time that goes back, a negative rate, or fewer than two samples.
    """
    samples = _exported(path) if path.suffix == ".json" else _rows(path)
    times, values = list[float](), list[float]()
    for place, at, value in samples:
        if not value >= 0 or (times and at <= times[-1]):
            message = f"{path}:{place}: times must grow, and rates must not be negative"
            raise BadTrace(message)
        times.append(at)
        values.append(value)
    if len(times) < 2:
        message = f"{path}: a trace needs at least two rows"
        raise BadTrace(message)
    rates: Trace = np.interp(np.arange(times[0], times[-1]), times, values)
    return rates


def _rows(path: Path) -> Iterable[tuple[int, float, float]]:
    with path.open(newline="", encoding="utf-8") as lines:
        for number, row in enumerate(csv.reader(lines), start=1):
            try:
                at, value = (float(each) for each in row[:2])
            except ValueError:
                if number == 1:
                    continue
                message = f"{path}:{number}: expected two numbers, seconds and calls per second"
                raise BadTrace(message) from None
            yield number, at, value


def _exported(path: Path) -> Iterable[tuple[str, float, float]]:
    totals: dict[float, float] = {}
    try:
        for series in json.loads(path.read_bytes())["data"]["result"]:
            for at, value in series["values"]:
                totals[float(at)] = totals.get(float(at), 0.0) + float(value)
    except (ValueError, KeyError, TypeError) as exc:
        message = f"{path}: expected the answer of /api/v1/query_range"
        raise BadTrace(message) from exc
    return [(f"{at:.0f}", at, totals[at]) for at in sorted(totals)]


def _noise(seconds: int, sigma: float, memory_s: float, seed: int) -> Trace:
    """Return log-normal noise around 1 that forgets within `memory_s` (an Ornstein-Uhlenbeck process)."""
    random = np.random.default_rng(seed)
    keep = math.exp(-1.0 / memory_s)
    shocks = random.normal(0.0, sigma * math.sqrt(1 - keep**2), seconds)
    level, levels = random.normal(0.0, sigma), np.empty(seconds)
    for i, shock in enumerate(shocks):
        level = keep * level + shock
        levels[i] = level
    return np.exp(levels - sigma**2 / 2)
