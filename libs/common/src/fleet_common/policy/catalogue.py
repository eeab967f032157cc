"""The catalogue: what a policy must know about every tool of the fleet, without any service at hand."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

DataKind = Literal["untrusted", "private", "public"]


class CatalogueTool(BaseModel):
    """One tool, as it declares itself.

    Attributes:
        scope: what a caller needs; None is open to every verified caller.
        touches: what it reads and writes; `fleet_common.mcp.touches` says what the words mean.
        confirmed: calls wait for a person unless an approval rule says otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    service: str
    scope: str | None
    touches: tuple[DataKind, ...]
    confirmed: bool


CATALOGUE: TypeAdapter[tuple[CatalogueTool, ...]] = TypeAdapter(tuple[CatalogueTool, ...])
"""Reads and writes a catalogue as JSON."""
