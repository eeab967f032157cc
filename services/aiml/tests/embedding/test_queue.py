"""Many callers, one engine, one thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fleet_aiml.embedding.service import EmbedQueue
from fleet_aiml.errors import ModelBusy, ModelMissing
from fleet_aiml.testing import POISON, TEST_MODEL, WordEngine, word_ids
from fleet_common.errors import DeadlineExceeded, Unavailable
from fleet_common.testing import wait_until


async def holding(engine: WordEngine, queue: EmbedQueue) -> asyncio.Task[object]:
    """Keep the engine busy with one text until its gate is set."""
    engine.gate.clear()
    task: asyncio.Task[object] = asyncio.create_task(queue.submit(["holds the engine"]))
    await wait_until(lambda: _true_when(engine.entered.is_set()))
    return task


async def queued(queue: EmbedQueue, depth: int) -> None:
    await wait_until(lambda: _true_when(queue.depth() == depth))


async def _true_when(value: bool) -> bool:
    return value


async def test_results_come_in_the_order_of_the_inputs(queue: EmbedQueue) -> None:
    texts = ["a b c d", "a", "a b", "a b c"]
    answers = await queue.submit(texts)
    assert [answer.tokens for answer in answers] == [4, 1, 2, 3]


async def test_no_inputs_need_no_engine(queue: EmbedQueue) -> None:
    assert await queue.submit([]) == []
    assert not queue.is_loaded


async def test_the_engine_loads_with_the_first_input_and_in_another_thread() -> None:
    loaded_in: list[str] = []

    def load() -> WordEngine:
        loaded_in.append(threading.current_thread().name)
        return WordEngine()

    async with EmbedQueue("words", load, guess=len) as queue:
        assert loaded_in == []
        await queue.submit(["one"])
        await queue.submit(["two"])
    assert loaded_in == ["model-words"]


async def test_the_engine_warms_up_without_a_call() -> None:
    async with EmbedQueue("words", WordEngine, guess=len, warm_after_s=0.01) as queue:
        await wait_until(lambda: _true_when(queue.is_loaded))


async def test_what_gathers_while_a_batch_runs_is_one_batch(
    engine: WordEngine, queue: EmbedQueue
) -> None:
    first = await holding(engine, queue)
    others = [asyncio.create_task(queue.submit([f"text {n}"])) for n in range(6)]
    await queued(queue, 6)
    engine.gate.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in engine.batches] == [1, 6]


async def test_an_input_that_waits_or_runs_is_not_run_twice(
    engine: WordEngine, queue: EmbedQueue
) -> None:
    first = await holding(engine, queue)
    tasks = [asyncio.create_task(queue.submit(["same", "same"])) for _ in range(3)]
    tasks.append(asyncio.create_task(queue.submit(["holds the engine"])))
    await queued(queue, 1)
    engine.gate.set()
    await first
    answers = await asyncio.gather(*tasks)
    assert [len(answer) for answer in answers] == [2, 2, 2, 1]
    assert engine.batches == [[word_ids("holds the engine")], [word_ids("same")]]


async def test_a_cancelled_call_takes_its_inputs_out(engine: WordEngine, queue: EmbedQueue) -> None:
    first = await holding(engine, queue)
    gone = asyncio.create_task(queue.submit(["nobody wants this"]))
    stays = asyncio.create_task(queue.submit(["wanted"]))
    await queued(queue, 2)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    engine.gate.set()
    await asyncio.gather(first, stays)
    assert engine.batches[1:] == [[word_ids("wanted")]]


async def test_an_input_somebody_else_waits_for_outlives_a_cancelled_call(
    engine: WordEngine, queue: EmbedQueue
) -> None:
    first = await holding(engine, queue)
    gone, stays = (asyncio.create_task(queue.submit(["shared"])) for _ in range(2))
    await queued(queue, 1)
    gone.cancel()
    engine.gate.set()
    await first
    assert len(await stays) == 1


async def test_a_call_that_waited_too_long_is_told_and_never_run(
    engine: WordEngine, queue: EmbedQueue
) -> None:
    first = await holding(engine, queue)
    with pytest.raises(DeadlineExceeded):
        await queue.submit(["late"], timeout_s=0.01)
    engine.gate.set()
    await first
    await queue.submit(["next"])
    assert engine.batches[1:] == [[word_ids("next")]]


async def test_a_full_queue_refuses_with_a_time_and_queues_nothing(
    engine: WordEngine, queue: EmbedQueue
) -> None:
    first = await holding(engine, queue)
    full = asyncio.create_task(queue.submit([f"number {n}" for n in range(20)]))
    await queued(queue, 20)
    with pytest.raises(ModelBusy) as refused:
        await queue.submit(["one more"])
    assert refused.value.retryable
    assert refused.value.retry_after_s is not None
    assert queue.depth() == 20
    engine.gate.set()
    await asyncio.gather(first, full)


async def test_a_queue_longer_than_the_callers_time_refuses_at_once() -> None:
    engine = WordEngine()
    async with EmbedQueue("words", lambda: engine, guess=lambda _: 10_000) as queue:
        first = await holding(engine, queue)
        slow = asyncio.create_task(queue.submit(["ten thousand tokens"]))
        await queued(queue, 1)
        with pytest.raises(ModelBusy):
            await queue.submit(["impatient"], timeout_s=1)
        engine.gate.set()
        await asyncio.gather(first, slow)


async def test_a_person_is_served_before_a_bulk_load(engine: WordEngine, queue: EmbedQueue) -> None:
    first = await holding(engine, queue)
    bulk = asyncio.create_task(queue.submit(["bulk load"], lane="ingest"))
    await queued(queue, 1)
    person = asyncio.create_task(queue.submit(["a person"]))
    await queued(queue, 2)
    engine.gate.set()
    await asyncio.gather(first, bulk, person)
    assert engine.batches[1:] == [[word_ids("a person")], [word_ids("bulk load")]]


async def test_an_input_that_breaks_the_model_fails_alone(
    engine: WordEngine, queue: EmbedQueue
) -> None:
    first = await holding(engine, queue)
    texts = ["good one", f"bad {POISON}", "good two", "good three", "good four"]
    tasks = [asyncio.create_task(queue.submit([text])) for text in texts]
    await queued(queue, 5)
    engine.gate.set()
    await first
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(outcome, ValueError) for outcome in outcomes] == [
        "bad" in text for text in texts
    ]


async def test_a_text_the_tokenizer_refuses_fails_alone_and_the_thread_lives(
    queue: EmbedQueue,
) -> None:
    bad = asyncio.create_task(queue.submit(["\ud800"]))
    good = asyncio.create_task(queue.submit(["good"]))
    with pytest.raises(UnicodeEncodeError):
        await bad
    assert len(await good) == 1
    assert len(await queue.submit(["still here"])) == 1


async def test_a_model_that_does_not_load_is_told_and_tried_again() -> None:
    outcomes: list[WordEngine | None] = [None, WordEngine()]

    def load() -> WordEngine:
        engine = outcomes.pop(0)
        if engine is None:
            raise ModelMissing("not installed")
        return engine

    async with EmbedQueue("words", load, guess=len, warm_after_s=5) as queue:
        with pytest.raises(ModelMissing):
            await queue.submit(["first"])
        assert len(await queue.submit(["second"])) == 1


async def test_closing_refuses_what_waits(engine: WordEngine) -> None:
    async with EmbedQueue("words", lambda: engine, guess=len) as queue:
        first = await holding(engine, queue)
        waits = asyncio.create_task(queue.submit(["too late"]))
        await queued(queue, 1)
        closing = asyncio.create_task(queue.__aexit__(None, None, None))
        await asyncio.sleep(0)
        engine.gate.set()
        await closing
    await first
    with pytest.raises(Unavailable):
        await waits
    with pytest.raises(Unavailable):
        await queue.submit(["after the end"])


async def test_gauges_tell_what_waits_now(engine: WordEngine, queue: EmbedQueue) -> None:
    gauges = {gauge.name: gauge.read for gauge in queue.gauges()}
    assert [read() for read in gauges.values()] == [0, 0, 0]
    first = await holding(engine, queue)
    waits = asyncio.create_task(queue.submit(["three words here", "two words"]))
    await queued(queue, 2)
    await asyncio.sleep(0.01)
    assert gauges["aiml_queue_depth"]() == 2
    assert gauges["aiml_queue_tokens"]() == 5
    assert gauges["aiml_queue_oldest_seconds"]() >= 0.01
    engine.gate.set()
    await asyncio.gather(first, waits)
    assert [read() for read in gauges.values()] == [0, 0, 0]


async def test_64_callers_all_get_their_own_answer(queue: EmbedQueue) -> None:
    answers = await asyncio.gather(
        *(queue.submit([" ".join(["w"] * (n % 9 + 1))]) for n in range(64))
    )
    assert [answer[0].tokens for answer in answers] == [n % 9 + 1 for n in range(64)]
    assert all(answer[0].vector.shape == (TEST_MODEL.dimension,) for answer in answers)
