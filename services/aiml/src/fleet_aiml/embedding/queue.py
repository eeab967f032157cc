"""`BatchQueue`: many callers, one model, one thread.

Callers submit inputs on the event loop and await; the thread that owns the model takes what waits, drops
what nobody waits for any more, and runs it in batches of similar length (`batches.py`). It starts at once
when it is idle: while one batch runs the next one gathers, so waiting for company would only add delay.
An input that is already waiting or running is not run twice. When a batch fails it is halved until the
input that breaks it stands alone; the others still get their answer.

State is guarded by one lock that is held for microseconds. Answers reach the loop in one callback a batch.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import structlog

from fleet_aiml.embedding.batches import BatchLimits, Lane, TurnTaker
from fleet_aiml.embedding.jobs import ItemT, Job, Request, ResultT
from fleet_aiml.errors import ModelBusy
from fleet_common.clock import Clock
from fleet_common.errors import DeadlineExceeded, Unavailable

log = structlog.get_logger()

_In_contra = TypeVar("_In_contra", contravariant=True)
_Out_co = TypeVar("_Out_co", covariant=True)
_T = TypeVar("_T")

_FIRST_GUESS_TOKENS_PER_S = 4000.0  # a slow 2-core CPU; replaced by what is measured


class BatchEngine(Protocol[_In_contra, _Out_co]):
    """What the queue's thread drives."""

    def prepare(self, items: Sequence[_In_contra]) -> Sequence[list[int]]:
        """Return the inputs as the model reads them; the length of each is its cost."""
        ...

    def run(self, batch: Sequence[list[int]]) -> Sequence[_Out_co]:
        """Return one result per input, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Gauge:
    """One metric that is read when it is asked for."""

    name: str
    help_text: str
    read: Callable[[], float]


class BatchQueue(Generic[ItemT, ResultT]):
    """Runs inputs on one engine; an async context manager, bound to the event loop that enters it.

    Args:
        name: the engine's name in metrics, errors and the thread's name.
        open_engine: loads the engine; called in the thread, on the first input or after `warm_after_s`.
        guess: cost of an input before it is prepared, in tokens; must be cheap.
        limits: size of one forward pass.
        max_waiting: most inputs that may wait.
        warm_after_s: load the engine this long after the start even when nobody asked; None waits for
            the first input.
        clock: where durations come from.
    """

    def __init__(
        self,
        name: str,
        open_engine: Callable[[], BatchEngine[ItemT, ResultT]],
        *,
        guess: Callable[[ItemT], int],
        limits: BatchLimits | None = None,
        max_waiting: int = 1024,
        warm_after_s: float | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = name
        self._open_engine = open_engine
        self._guess = guess
        self._turns = TurnTaker(limits or BatchLimits())
        self._max_waiting = max_waiting
        self._warm_after_s = warm_after_s
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: dict[ItemT, Job[ItemT, ResultT]] = {}
        self._running: dict[ItemT, Job[ItemT, ResultT]] = {}
        self._closing = False
        self._tokens_per_s = _FIRST_GUESS_TOKENS_PER_S
        self._engine: BatchEngine[ItemT, ResultT] | None = None
        self._thread = threading.Thread(target=self._work, name=f"model-{name}", daemon=True)

    async def __aenter__(self) -> Self:
        """Start the thread; nothing is loaded yet."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the batch that runs finish, refuse what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    async def submit(
        self, items: Sequence[ItemT], *, lane: Lane = "interactive", timeout_s: float = 30.0
    ) -> list[ResultT]:
        """Return one result per item, in order.

        Cancelling the call takes its items out of the queue, unless somebody else waits for them too.

        Args:
            items: inputs; equal ones are run once.
            lane: interactive is served first; ingest gets one batch in five while both wait.
            timeout_s: time the caller has.

        Raises:
            ModelBusy: the queue is full, or longer than `timeout_s`; nothing was queued.
            DeadlineExceeded: `timeout_s` passed.
        """
        if not items:
            return []
        request: Request[ResultT] = Request(len(items))
        self._enqueue(items, request, lane, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await request.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"the model {self.name} did not answer in time") from None

    def depth(self) -> int:
        """Return how many inputs wait now."""
        with self._changed:
            return len(self._waiting)

    def tokens(self) -> int:
        """Return how many tokens wait now; guessed for inputs that are not prepared yet."""
        with self._changed:
            return sum(job.cost for job in self._waiting.values())

    def oldest_seconds(self) -> float:
        """Return how long the oldest waiting input has waited; 0 when none waits."""
        with self._changed:
            oldest = next(iter(self._waiting.values()), None)  # a dict keeps the order of arrival
            return 0.0 if oldest is None else self._clock() - oldest.arrived

    def gauges(self) -> tuple[Gauge, ...]:
        """Return the metrics of this queue; each is computed when it is asked for, so it is never stale."""
        return (
            Gauge("aiml_queue_depth", "Inputs that wait for the model.", self.depth),
            Gauge(
                "aiml_queue_tokens", "Tokens of the inputs that wait for the model.", self.tokens
            ),
            Gauge(
                "aiml_queue_oldest_seconds", "Age of the oldest waiting input.", self.oldest_seconds
            ),
        )

    @property
    def is_loaded(self) -> bool:
        """Whether the engine is in memory."""
        return self._engine is not None

    def _enqueue(
        self, items: Sequence[ItemT], request: Request[ResultT], lane: Lane, timeout_s: float
    ) -> None:
        now = self._clock()
        with self._changed:
            self._admit(items, timeout_s)
            for position, item in enumerate(items):
                job = self._running.get(item) or self._waiting.get(item)
                if job is None:
                    job = Job(item, lane, self._guess(item), now, now)
                    self._waiting[item] = job
                job.join(request, position, lane, now + timeout_s)
            self._changed.notify()

    def _admit(self, items: Sequence[ItemT], timeout_s: float) -> None:
        if self._closing:
            raise Unavailable(f"the model {self.name}")
        fresh = sum(i not in self._waiting and i not in self._running for i in set(items))
        wait_s = sum(job.cost for job in self._waiting.values()) / self._tokens_per_s
        if len(self._waiting) + fresh > self._max_waiting or (fresh and wait_s > timeout_s):
            raise ModelBusy(self.name, retry_after_s=max(0.1, round(wait_s, 1)))

    # Everything below runs in the model's thread.

    def _work(self) -> None:
        while self._wait_for_work():
            engine = self._load()
            if engine is not None and self._prepare(engine):
                self._run(engine, self._take_batch())
        self._refuse(self._all_waiting(), Unavailable(f"the model {self.name}"))

    def _wait_for_work(self) -> bool:
        """Return True when there is work or it is time to warm up; False when the queue closes."""
        with self._changed:
            warm_in = None if self._engine is not None else self._warm_after_s
            self._changed.wait_for(lambda: self._waiting or self._closing, timeout=warm_in)
            return not self._closing

    def _load(self) -> BatchEngine[ItemT, ResultT] | None:
        if self._engine is None:
            started = self._clock()
            try:
                self._engine = self._open_engine()
            except Exception as exc:
                # Any failure must reach whoever waits. The next input tries again, a timer does not.
                log.exception("model_load_failed", engine=self.name)
                self._warm_after_s = None
                self._refuse(self._all_waiting(), exc)
                return None
            seconds = round(self._clock() - started, 3)
            log.info("model_loaded", engine=self.name, seconds=seconds)
        return self._engine

    def _prepare(self, engine: BatchEngine[ItemT, ResultT]) -> bool:
        """Drop what nobody waits for and prepare the rest; return whether anything is left."""
        now = self._clock()
        with self._changed:
            for job in [j for j in self._waiting.values() if not j.is_wanted(now)]:
                del self._waiting[job.item]
            raw = [job for job in self._waiting.values() if job.tokens is None]
        prepared = self._attempt(lambda jobs: engine.prepare([j.item for j in jobs]), raw)
        for job, tokens in prepared:
            job.tokens, job.cost = tokens, len(tokens)
        with self._changed:
            return any(job.tokens is not None for job in self._waiting.values())

    def _take_batch(self) -> list[Job[ItemT, ResultT]]:
        with self._changed:
            ready = [job for job in self._waiting.values() if job.tokens is not None]
            batch = self._turns.next_batch(ready)
            for job in batch:
                self._running[job.item] = self._waiting.pop(job.item)
        return batch

    def _run(self, engine: BatchEngine[ItemT, ResultT], batch: list[Job[ItemT, ResultT]]) -> None:
        started = self._clock()
        answers = self._attempt(lambda jobs: engine.run([j.tokens or [] for j in jobs]), batch)
        self._measure(sum(job.cost for job in batch), self._clock() - started)
        self._finish([job for job, _ in answers])

        def complete() -> None:
            for job, result in answers:
                for request, position in job.waiters:
                    request.answer(position, result)

        self._loop.call_soon_threadsafe(complete)

    def _attempt(
        self,
        call: Callable[[list[Job[ItemT, ResultT]]], Sequence[_T]],
        jobs: list[Job[ItemT, ResultT]],
    ) -> list[tuple[Job[ItemT, ResultT], _T]]:
        """Return each job with its outcome; a job that fails alone is refused and left out."""
        if not jobs:
            return []
        try:
            return list(zip(jobs, call(jobs), strict=True))
        except Exception as exc:
            # An engine may fail in any way, and whoever waits must hear of it.
            if len(jobs) == 1:
                log.exception("input_failed", engine=self.name, tokens=jobs[0].cost)
                self._refuse(jobs, exc)
                return []
        middle = len(jobs) // 2
        return [*self._attempt(call, jobs[:middle]), *self._attempt(call, jobs[middle:])]

    def _measure(self, tokens: int, seconds: float) -> None:
        if seconds > 0:  # an average over about the last ten batches
            self._tokens_per_s += 0.1 * (tokens / seconds - self._tokens_per_s)

    def _refuse(self, jobs: list[Job[ItemT, ResultT]], error: Exception) -> None:
        self._finish(jobs)

        def refuse() -> None:
            for job in jobs:
                for request, _ in job.waiters:
                    request.refuse(error)

        self._loop.call_soon_threadsafe(refuse)

    def _all_waiting(self) -> list[Job[ItemT, ResultT]]:
        with self._changed:
            return list(self._waiting.values())

    def _finish(self, jobs: list[Job[ItemT, ResultT]]) -> None:
        """Take jobs out: from here on nobody can join them, so their waiters are complete."""
        with self._changed:
            for job in jobs:
                self._running.pop(job.item, None)
                self._waiting.pop(job.item, None)
