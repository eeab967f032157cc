"""Parameter types that mean the same in every tool of the fleet; a contract test holds tools to them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Limit = Annotated[int, Field(ge=1, le=200, description="Most rows to return, 1 to 200.")]
Cursor = Annotated[
    str | None,
    Field(
        max_length=2048, description="`next_cursor` of the previous page; leave out for the first."
    ),
]
Fields = Annotated[
    list[str] | None,
    Field(
        max_length=64, description="Names of the fields to return; leave out for the usual ones."
    ),
]
DryRun = Annotated[bool, Field(description="True shows what would change and changes nothing.")]
IdempotencyKey = Annotated[
    str | None,
    Field(
        min_length=8,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",
        description="Your own unique text for this change. Repeating the call with it returns the first answer "
        "instead of changing anything again.",
    ),
]
