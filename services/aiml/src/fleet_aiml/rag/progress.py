"""How far an ingest is, in bytes of text: documents differ too much in size to be counted alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fleet_aiml.rag.models import Document

Report = Callable[[int, int, str], Awaitable[None]]
"""Takes the bytes done, the bytes in all and a sentence."""


async def nobody_asks(_done: int, _total: int, _message: str) -> None:
    """Report to nobody."""


class Progress:
    """Tells `report` about each step of one ingest."""

    def __init__(self, documents: Sequence[Document], report: Report) -> None:
        self._sizes = [len(document.text.encode()) for document in documents]
        self._report = report

    async def step(self, number: int, written: int, passages: int) -> None:
        """Report that `written` of the `passages` of document `number` (from 1) are there."""
        before, own = sum(self._sizes[: number - 1]), self._sizes[number - 1]
        done = before + own * written // max(passages, 1)
        message = (
            f"document {number} of {len(self._sizes)}, {written} of {passages} passages written"
        )
        await self._report(done, sum(self._sizes), message)
