"""Parameter types that mean the same in every tool of the fleet; a contract test holds tools to them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Limit = Annotated[int, Field(ge=1, le=200, description="Most rows.")]
Cursor = Annotated[
    str | None, Field(max_length=2048, description="`next_cursor` of the page before.")
]
Fields = Annotated[
    list[str] | None,
    Field(max_length=64, description="Fields; the usual ones by default."),
]
DryRun = Annotated[bool, Field(description="Only show what would change.")]
IdempotencyKey = Annotated[
    str | None,
    Field(
        min_length=8,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",
        description="8 or more characters; a repeat changes nothing.",
    ),
]
