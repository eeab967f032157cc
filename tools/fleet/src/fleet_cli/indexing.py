"""The step of a start that makes the project's documents searchable.

It begins as soon as aiml answers, beside the steps that still go on. A start waits for it only so long: embedding a
large `docs/` for the first time takes a minute of CPU, and the rest can follow while the fleet is used.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait

from fleet_cli.documents import index_documents
from fleet_cli.environment import Environment
from fleet_cli.errors import CallFailed
from fleet_cli.progress import Progress, Step, working

STEP = "documents"
_PATIENCE_S = 12.0


class Indexing:
    """Indexes the documents once; a fleet without them still runs, so a failure is a warning."""

    def __init__(
        self, environment: Environment, progress: Progress, patience_s: float = _PATIENCE_S
    ) -> None:
        self._environment = environment
        self._progress = progress
        self._patience_s = patience_s
        self._rest: Future[int | None] | None = None
        self.warnings: tuple[str, ...] = ()

    def run(self) -> None:
        """Begin, and return when all is done or patience ends; the end of aiml ends the work too."""
        try:
            with working(self._progress, STEP, "begun") as step:
                pool = ThreadPoolExecutor(1)
                job = pool.submit(self._index, step)
                pool.shutdown(wait=False)
                if wait([job], timeout=self._patience_s).not_done:
                    self._rest = job
                    step.note = f"{step.note}, the rest follows"
                else:
                    found = job.result()
                    step.note = "unchanged" if found is None else f"{found} indexed for rag_search"
        except CallFailed as exc:
            self.warnings = (_not_searchable(exc),)

    def news(self) -> str | None:
        """Return, once, how that ended which outlived the start."""
        if self._rest is None or not self._rest.done():
            return None
        job, self._rest = self._rest, None
        try:
            job.result()
        except CallFailed as exc:
            return _not_searchable(exc)
        return "Every document is indexed for rag_search."

    def _index(self, step: Step) -> int | None:
        def progressed(note: str) -> None:
            if step.outcome == "working":
                step.note = note
                self._progress.changed(step)

        url, key = self._environment.ports.url("aiml"), self._environment.secrets.admin_key
        return index_documents(self._environment.state, url, key, progressed=progressed)


def _not_searchable(exc: CallFailed) -> str:
    return f"The documents are not all searchable: {exc.message}"
