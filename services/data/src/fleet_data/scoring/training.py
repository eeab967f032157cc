"""Fitting a model; the one place that needs scikit-learn, which is imported when somebody trains.

Logistic regression on standardised features. How strongly it is held back is chosen by log loss on folds that keep
the moments of one lead together. Platt's calibration (a line through the logits of the held-out folds) is folded
into the weights, so that the calibrated model is still one sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fleet_common.errors import NotConfigured
from fleet_data.scoring.features import vector
from fleet_data.scoring.models import Example, LeadModel, TooFewOutcomes, Weight

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

NEEDED = 30
"""Leads of either outcome without which nothing is learnt."""
_STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1)
_FOLDS = 5
_RARE = 0.02  # a country with fewer of the leads says nothing that would last


def require_training() -> None:
    """Return when a model can be trained here.

    Raises:
        NotConfigured: scikit-learn is missing.
    """
    if find_spec("sklearn") is None:
        raise NotConfigured(
            "training a model needs the extra `train`", hint="pip install 'fleet-data[train]'"
        )


def fit(examples: Sequence[Example], *, version: int = 0) -> LeadModel:
    """Return the model that learnt from `examples`; takes seconds and does not yield.

    Raises:
        TooFewOutcomes: too few leads converted, or too few did not.
    """
    require_enough(examples)
    import numpy as np  # noqa: PLC0415 - as below

    values, names = _design(examples)
    matrix = np.array([[row.get(name, 0.0) for name in names] for row in values])
    labels = np.array([example.has_converted for example in examples], dtype=float)
    mean, spread = matrix.mean(axis=0), matrix.std(axis=0)
    kept = spread > 1e-9
    groups = [example.facts.lead_id for example in examples]
    weights, bias = _fit_calibrated((matrix[:, kept] - mean[kept]) / spread[kept], labels, groups)
    kept_names = [name for name, is_kept in zip(names, kept, strict=True) if is_kept]
    rows = zip(kept_names, weights / spread[kept], mean[kept], strict=True)
    return LeadModel(version, bias, tuple(Weight(n, float(w), float(m)) for n, w, m in rows))


def require_enough(examples: Sequence[Example], *, needed: int = NEEDED) -> None:
    """Return when `examples` hold `needed` leads of either outcome.

    Raises:
        TooFewOutcomes: they do not.
    """
    converted = {e.facts.lead_id for e in examples if e.has_converted}
    lost = {e.facts.lead_id for e in examples} - converted
    if min(len(converted), len(lost)) < needed:
        raise TooFewOutcomes(converted=len(converted), lost=len(lost), needed=needed)


def _design(examples: Sequence[Example]) -> tuple[list[dict[str, float]], list[str]]:
    """Return the features of every example, and the names of those that are not rare."""
    values = [vector(example.facts) for example in examples]
    counts = Counter(name for row in values for name, value in row.items() if value)
    return values, sorted(name for name, n in counts.items() if n >= _RARE * len(values))


def _fit_calibrated(matrix: Matrix, labels: Matrix, groups: Sequence[str]) -> tuple[Matrix, float]:
    """Return weights and bias for standardised features, calibrated."""
    # scikit-learn has no types; it is an extra, and loading it takes a second.
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # noqa: PLC0415
    from sklearn.metrics import log_loss  # type: ignore[import-untyped]  # noqa: PLC0415
    from sklearn.model_selection import (  # type: ignore[import-untyped]  # noqa: PLC0415
        GroupKFold,
        cross_val_predict,
    )

    def learner(strength: float) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=1000)

    best_loss, best, line = float("inf"), _STRENGTHS[0], None
    for strength in _STRENGTHS:
        held_out = cross_val_predict(
            learner(strength),
            matrix,
            labels,
            groups=groups,
            cv=GroupKFold(_FOLDS),
            method="decision_function",
        ).reshape(-1, 1)
        platt = LogisticRegression(C=1e6).fit(held_out, labels)
        loss = log_loss(labels, platt.predict_proba(held_out)[:, 1])
        if loss < best_loss:
            best_loss, best, line = loss, strength, platt
    fitted = learner(best).fit(matrix, labels)
    assert line is not None  # noqa: S101 - every loss is below infinity
    slope, offset = max(0.0, float(line.coef_[0, 0])), float(line.intercept_[0])
    return slope * fitted.coef_[0], slope * float(fitted.intercept_[0]) + offset
