"""The one door to numba: functions that are compiled at first use and kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Compile `function` to machine code; the result is cached beside its file."""
    return cast("F", njit(cache=True, fastmath=False, forceinline=True)(function))
