"""Policies side by side: means over traces and seeds as a table, and one run as a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from fleet_autoscale.simulation.model import Faults, Service
from fleet_autoscale.simulation.picture import HEIGHT, WIDTH, Picture, Point, Stroke, Words
from fleet_autoscale.simulation.run import Result, Scaler, simulate
from fleet_autoscale.simulation.traces import Trace

_MARGIN = 40
_COLOURS = ("#888888", "#d9822b", "#c23030", "#137cbd", "#8f398f", "#0f9960")


@dataclass(frozen=True, slots=True)
class Score:
    """One policy's means over all runs."""

    policy: str
    slo: float
    accepted_slo: float
    cost: float
    reversals: float
    most_pods: int
    pod_hours: float
    requests_per_cpu_s: float


def compare(
    service: Service,
    traces: Sequence[Callable[[int], Trace]],
    makers: Sequence[Callable[[], Scaler]],
    seeds: Iterable[int],
    faults: Faults | None = None,
    *,
    is_fluid: bool | None = None,
) -> list[Score]:
    """Return how each policy did on every trace with every seed; all of them see the same traffic.

    Args:
        service: what is scaled.
        traces: each makes its traffic from a seed.
        makers: each makes a fresh autoscaler.
        seeds: of traffic and service times.
        faults: what goes wrong in every run.
        is_fluid: as for `simulate`.
    """
    runs = [(trace(seed), seed) for trace in traces for seed in seeds]
    return [
        score(
            make().name,
            [
                simulate(
                    service, rates, make(), seed=seed, faults=faults or Faults(), is_fluid=is_fluid
                )
                for rates, seed in runs
            ],
        )
        for make in makers
    ]


def score(policy: str, results: Sequence[Result]) -> Score:
    """Return the means of some runs."""
    return Score(
        policy,
        slo=fmean(each.slo for each in results),
        accepted_slo=fmean(each.accepted_slo for each in results),
        cost=fmean(each.cost for each in results),
        reversals=fmean(each.reversals for each in results),
        most_pods=max(int(each.pods.max()) for each in results),
        pod_hours=fmean(each.pod_seconds for each in results) / 3600,
        requests_per_cpu_s=sum(each.offered for each in results)
        / max(sum(each.cpu_s for each in results), 1e-9),
    )


def table(scores: Sequence[Score]) -> str:
    """Return a Markdown table."""
    lines = [
        "| policy | SLO | of accepted | pod-hours | x oracle | reversals | most pods |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {each.policy} | {each.slo:.2%} | {each.accepted_slo:.2%} | {each.pod_hours:.1f} | {each.cost:.2f} "
        f"| {each.reversals:.1f} | {each.most_pods} |"
        for each in scores
    ]
    return "\n".join(lines)


def plot(service: Service, rates: Trace, runs: Sequence[tuple[str, Result]]) -> Picture:
    """Return the pods of each policy over time, and those of the oracle as an area."""
    oracle = service.oracle_pods(rates)
    top = max(float(oracle.max()), *(float(result.pods.max()) for _, result in runs)) * 1.05
    ground, hours = HEIGHT - _MARGIN, len(rates) / 3600
    area = [(_MARGIN, ground), *_points(oracle, top), (WIDTH - 10, ground)]
    below = f"{service.name}: pods over {hours:.1f} h; grey: perfect foresight"
    return [
        Stroke("area", area, "#e1e8ed"),
        *(
            Stroke("line", _points(result.pods.astype(float), top), _colour(i))
            for i, (_, result) in enumerate(runs)
        ),
        *(Words(name, (_MARGIN + 8 + 140 * i, 16), _colour(i)) for i, (name, _) in enumerate(runs)),
        Words(f"{top:.0f}", (4, 30)),
        Words("0", (4, ground)),
        Words(below, (_MARGIN, HEIGHT - 12)),
    ]


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]


def _points(values: Trace, top: float) -> list[Point]:
    """Return a point for every third pixel at most; the greatest of those that share it."""
    width = WIDTH - 10 - _MARGIN
    parts = np.array_split(values, min(width // 3, len(values)))
    ground, step = HEIGHT - _MARGIN, width / len(parts)
    return [
        (_MARGIN + i * step, ground - (ground - 24) * float(part.max()) / top)
        for i, part in enumerate(parts)
    ]
