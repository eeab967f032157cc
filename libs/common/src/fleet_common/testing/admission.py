"""A slot of an admission for the time of a block."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fleet_common.admission import Admission, Caller

_ANYBODY = Caller()


@asynccontextmanager
async def slot(
    admission: Admission, timeout_s: float, caller: Caller = _ANYBODY
) -> AsyncGenerator[None]:
    """Hold one slot while the block runs, as the gate does for a request.

    Raises:
        Overloaded: no slot within the time.
    """
    held = await admission.enter(timeout_s, caller)
    try:
        yield
    finally:
        admission.leave(held)
