"""Nouns of scoring: what is known of a lead, the model, a score with its reasons, and how good a model is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fleet_common.errors import Conflict

HORIZON_DAYS = 90
"""A score is about the days from the moment it is made: does the lead convert within them?"""


class TooFewOutcomes(Conflict):
    """Raised when a tenant has too few leads that were won or lost to learn from."""

    def __init__(self, *, converted: int, lost: int, needed: int) -> None:
        super().__init__(
            f"training needs {needed} leads that converted and {needed} that did not; "
            f"there are {converted} and {lost}",
            hint="The built-in model scores until there are more; keep the status of leads up to date",
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """What was known of a lead at one moment, and nothing later.

    Attributes:
        lead_id: the lead.
        traits: what it is, such as `{"source": "referral", "country": "France"}`; unknown ones are left out.
        amounts: what happened, such as `{"calls.count": 2, "calls.days": 3.5}`; what is missing is 0.
    """

    lead_id: str
    traits: Mapping[str, str]
    amounts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Example:
    """Facts at a moment in the past, and whether the lead converted within `HORIZON_DAYS` of it."""

    facts: Facts
    has_converted: bool


@dataclass(frozen=True, slots=True)
class Weight:
    """What one feature adds to the logit: `weight * (value - mean)`.

    Attributes:
        name: `group=value` for a trait, which is 1 or 0; `group.what` for an amount, of which the logarithm counts.
        mean: of the leads that the model learnt from, so that a reason says how a lead differs from the usual one.
    """

    name: str
    weight: float
    mean: float

    @property
    def group(self) -> str:
        """Return what the feature is about: features of one group are one reason."""
        return self.name.partition("=")[0].partition(".")[0]


@dataclass(frozen=True, slots=True)
class LeadModel:
    """A logistic model; its calibration is part of the weights, so the reasons add up to the calibrated logit.

    Attributes:
        version: number within the tenant; 0 is the model that is built in.
        bias: logit of the usual lead.
        weights: of all features; a feature that is not among them counts nothing.
    """

    version: int
    bias: float
    weights: tuple[Weight, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored, without the version."""
        rows = [[each.name, each.weight, each.mean] for each in self.weights]
        return {"bias": self.bias, "weights": rows}

    @classmethod
    def of_json(cls, version: int, stored: Mapping[str, Any]) -> LeadModel:
        """Return what `to_json` gave."""
        return cls(version, stored["bias"], tuple(Weight(*row) for row in stored["weights"]))


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a lead is to convert.

    Attributes:
        logit: `bias` of the model plus all contributions.
        contributions: what each group of features adds to the logit.
    """

    facts: Facts
    logit: float
    contributions: Mapping[str, float]

    @property
    def probability(self) -> float:
        """Return the chance to convert within `HORIZON_DAYS`, 0 to 1."""
        return sigmoid(self.logit)

    @property
    def points(self) -> int:
        """Return the score as people read it, 0 to 100."""
        return round(100 * self.probability)


@dataclass(frozen=True, slots=True)
class Metrics:
    """How good a model was on leads that it had not seen.

    Attributes:
        auc: chance that a lead that converted scored above one that did not; 0.5 is guessing.
        brier: mean squared error of the probability; lower is better.
        base_brier: the same for somebody who always says the base rate.
        lift_10: conversions among the best tenth, to those among as many picked blindly.
        calibration: five rows of (leads, mean probability, share that converted), from low to high.
    """

    leads: int
    converted: int
    auc: float
    brier: float
    base_brier: float
    lift_10: float
    calibration: Sequence[tuple[int, float, float]]

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored and shown."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model of a tenant, as `lead_model` shows it."""

    model: LeadModel
    metrics: dict[str, Any]
    is_active: bool
    trained_at: str
    trained_by: str


def sigmoid(logit: float) -> float:
    """Return the probability of a logit, whatever its size."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
