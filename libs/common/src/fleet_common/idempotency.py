"""Idempotency: a change that is asked for twice with one key happens once and is answered alike both times.

Record first: `recall` takes the key before anything changes, in the transaction of the change, so the key is
there exactly when the change is. A second call with the key waits for the first to end. A key belongs to one
caller of one tenant and one tool; with other arguments it is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fleet_common.digests import digest_of


@dataclass(frozen=True, slots=True)
class KeyedCall:
    """A call that its caller may repeat.

    Attributes:
        digest: what a repetition must share; see `KeyedCall.of`.
    """

    tenant: str
    subject: str
    tool: str
    key: str
    digest: str

    @classmethod
    def of(cls, tenant: str, subject: str, tool: str, key: str, arguments: Any) -> KeyedCall:
        """Return the call that `key` names; `arguments` is everything that makes it this change."""
        return cls(tenant, subject, tool, key, digest_of(arguments))


class Records(Protocol):
    """Where keys and answers are kept, in the transaction that also makes the change."""

    async def recall(self, call: KeyedCall) -> Any | None:
        """Return the answer given before, as JSON, or None and take the key.

        Raises:
            KeyReused: the key was used with other arguments.
        """
        ...

    async def answered(self, call: KeyedCall) -> Any | None:
        """Return the answer given before, or None; takes nothing, so that a plan may ask too.

        Raises:
            KeyReused: the key was used with other arguments.
        """
        ...

    async def remember(self, call: KeyedCall, answer: Any) -> None:
        """Record the answer, as JSON, under the key that `recall` took."""
        ...


async def once(records: Records, call: KeyedCall, change: Callable[[], Awaitable[Any]]) -> Any:
    """Return what `change` answered the first time this call was made; later calls change nothing.

    Args:
        records: kept in the same transaction as the change, or both may be lost apart.
        call: the key and its scope.
        change: makes the change and returns its answer as JSON; None is no answer.

    Raises:
        KeyReused: the key was used with other arguments.
    """
    before = await records.recall(call)
    if before is not None:
        return before
    answer = await change()
    await records.remember(call, answer)
    return answer
