"""The traffic that a policy is held to: twenty kinds, calm and harsh."""

from __future__ import annotations

from functools import partial

from fleet_autoscale.simulation.traces import (
    Maker,
    bursty,
    diurnal,
    ramp,
    shift,
    spike,
    stairs,
    step,
)

SUITE: dict[str, Maker] = {
    "diurnal": diurnal,
    "diurnal, shallow": partial(diurnal, low=0.5),
    "diurnal, deep": partial(diurnal, low=0.1),
    "diurnal, noisy": partial(diurnal, sigma=0.2),
    "step x2": partial(step, height=2.0),
    "step x3": partial(step, height=3.0),
    "step x4.5": step,
    "spike x2": partial(spike, height=2.0),
    "spike x3": partial(spike, height=3.0),
    "spike x5": spike,
    "spike x3, ten minutes": partial(spike, height=3.0, long_s=600),
    "spike x2, every 15 min": partial(spike, height=2.0, every_s=900),
    "bursty": bursty,
    "bursty, mild": partial(bursty, sigma=0.2),
    "bursty, quick": partial(bursty, sigma=0.3, memory_s=120.0),
    "bursty, slow": partial(bursty, sigma=0.5, memory_s=900.0),
    "ramp x2": partial(ramp, height=2.0),
    "ramp x4": ramp,
    "stairs": stairs,
    "shift": shift,
}
HOURS = 1.0
SEEDS = range(1, 11)
PODS = 5
"""That the base rate keeps busy at 70 % of their slots."""
