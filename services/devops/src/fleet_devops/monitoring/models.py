"""The nouns of monitoring: series, and Prometheus' answers on the wire."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

PromQL = Annotated[str, Field(min_length=1, max_length=4000, description="PromQL expression.")]
MomentText = Annotated[
    str | None,
    Field(
        max_length=40,
        pattern=r"^(now|-\d{1,6}[smhdw]|\d{4}-\d\d-\d\d([T ].+)?)$",
        description="ISO 8601 (UTC without a zone), now, or back from now: -15m, -7d.",
    ),
]
Reduction = Literal["last", "avg", "max", "p95"]


Sample = tuple[float, float]
"""Seconds since the epoch and a value, which the wire writes as text: "1.5", "NaN", "+Inf"."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: its labels and its values by time, in seconds since the epoch."""

    labels: dict[str, str]
    samples: list[Sample]

    @property
    def last(self) -> float:
        """Return the latest value; NaN when there is none."""
        return self.samples[-1][1] if self.samples else math.nan


class Wire(BaseModel):
    """JSON as Prometheus writes it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class WireVectorItem(Wire):
    """One series at one moment."""

    metric: dict[str, str]
    value: Sample


class WireMatrixItem(Wire):
    """One series over a range."""

    metric: dict[str, str]
    values: list[Sample]


class WireVector(Wire):
    """Series at one moment."""

    result_type: Literal["vector"]
    result: list[WireVectorItem]


class WireMatrix(Wire):
    """Series over a range."""

    result_type: Literal["matrix"]
    result: list[WireMatrixItem]


class WireScalar(Wire):
    """One number."""

    result_type: Literal["scalar"]
    result: Sample


class WireString(Wire):
    """A string literal, evaluated."""

    result_type: Literal["string"]
    result: tuple[float, str]


WireResult = Annotated[
    WireVector | WireMatrix | WireScalar | WireString, Field(discriminator="result_type")
]


class WireAnswer(Wire):
    """Prometheus' envelope."""

    status: Literal["success", "error"]
    data: WireResult | None = None
    error_type: str = ""
    error: str = ""
    warnings: list[str] = []


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query found.

    Attributes:
        warnings: Prometheus' own remarks, such as a partial answer.
    """

    series: list[Series]
    warnings: list[str]
