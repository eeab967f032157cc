"""Nouns of other databases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

OWN = "crm"
"""The name under which callers know the CRM's own database."""

DatabaseName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]


def _parsed(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(
                'is not a JSON object such as {"warehouse": "postgresql://…"}'
            ) from None
    if isinstance(value, dict) and OWN in value:
        raise ValueError(f"{OWN} is the CRM's own database")
    return value


NamedDsns = Annotated[dict[DatabaseName, SecretStr], NoDecode, BeforeValidator(_parsed)]
"""DSNs by name, written as a JSON object in the environment."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How safe a database is to query.

    Attributes:
        role: the role that reads it.
        refused: privileges it must not have; with any of them the database is not used.
        missing: protections it lacks, each a sentence; the others hold.
    """

    role: str
    refused: Sequence[str]
    missing: Sequence[str]
