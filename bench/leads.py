"""How well the lead model finds who converts: the product's own features and training, in worlds of leadforge 1.0.0.

Every world is learnt and asked in five folds, so that each of its 5,000 leads is scored by a model that never saw it.
leadforge runs in a venv that is made once in `.bench/`, where its worlds are kept too.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.report import Report
from fleet_data.scoring.evaluation import auc, measured
from fleet_data.scoring.features import facts_of, score
from fleet_data.scoring.models import Example, Facts, Metrics
from fleet_data.scoring.training import fit

LEADFORGE = "leadforge==1.0.0"
SEEDS = (42, 1, 2, 3, 4)
DAYS = (30, 60)  # of the 90 in which a lead may convert
_HEADLINE = 60
_FOLDS = 5
_CACHE = Path(__file__).parent.parent / ".bench"
_INSTALL_S, _GENERATE_S = 600, 600


def run() -> Report:
    """Score every world on every day."""
    found = {day: [_world(seed, day) for seed in SEEDS] for day in DAYS}
    means = {
        day: [fmean(column) for column in zip(*rows, strict=True)] for day, rows in found.items()
    }
    model, brier, rules = means[_HEADLINE]
    figures: dict[str, float | None] = {
        "auc": round(model, 4),
        "brier": round(brier, 4),
        "auc_gain": round(model - rules, 4),
    }
    lines = ["| scored on | AUC | Brier | AUC of a points table | gain |", "|---|---|---|---|---|"]
    lines += [
        f"| day {day} of 90 | {m:.3f} | {b:.3f} | {r:.3f} | {m - r:.3f} |"
        for day, (m, b, r) in means.items()
    ]
    spread = ", ".join(f"{row[0]:.3f}" for row in found[_HEADLINE])
    lines += ["", f"AUC of the worlds on day {_HEADLINE}: {spread}."]
    notes = {"auc": f"mean of seeds {SEEDS}, scored on day {_HEADLINE}; day 30: {means[30][0]:.4f}"}
    return Report(figures, "\n".join(lines), notes)


def rules(facts: Facts) -> float:
    """Return the points a common table of lead scoring gives: rank, source, and capped points for what happened."""
    rank = {"executive": 20, "head": 15, "manager": 10}.get(facts.traits.get("seniority", ""), 0)
    source = {"partner": 15, "web": 10}.get(facts.traits["source"], 0)
    mail = 5 if facts.traits.get("mail") == "business" else 0
    each = {"emails": (2, 20), "calls": (5, 20), "visits": (5, 20), "meetings": (10, 30)}
    done = sum(
        min(most, points * facts.amounts[f"{kind}.count"]) for kind, (points, most) in each.items()
    )
    return rank + source + mail + done


def _world(seed: int, day: int) -> tuple[float, float, float]:
    """Return AUC and Brier of the model, and the AUC of the rules, in one world."""
    examples = [
        Example(facts_of(each["row"]), each["has_converted"]) for each in _generated(seed, day)
    ]
    model = _in_folds(examples)
    points = [rules(example.facts) for example in examples]
    return model.auc, model.brier, auc(points, [example.has_converted for example in examples])


def _in_folds(examples: Sequence[Example]) -> Metrics:
    probabilities = [0.0] * len(examples)
    for fold in range(_FOLDS):
        model = fit([each for index, each in enumerate(examples) if index % _FOLDS != fold])
        for index in range(fold, len(examples), _FOLDS):
            probabilities[index] = score(model, examples[index].facts).probability
    return measured(probabilities, [example.has_converted for example in examples])


def _generated(seed: int, day: int) -> list[dict[str, Any]]:
    path = _CACHE / "leadforge-worlds" / f"{seed}-{day}.json"
    if not path.exists():
        command = [
            str(_python()),
            str(Path(__file__).with_name("leads_world.py")),
            str(seed),
            str(day),
        ]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_GENERATE_S
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(done.stdout, "utf-8")
    worlds: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return worlds


def _python() -> Path:
    folder = _CACHE / LEADFORGE.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=_INSTALL_S)
        install = [str(python), "-m", "pip", "install", "--quiet", LEADFORGE]
        subprocess.run(install, check=True, timeout=_INSTALL_S)
        (folder / "done").touch()
    return python
