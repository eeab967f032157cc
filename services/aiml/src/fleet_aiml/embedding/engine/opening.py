"""Chooses and loads an engine. Their packages are imported only here and only when chosen."""

from __future__ import annotations

from functools import partial

from fleet_aiml.embedding.batches import BatchLimits
from fleet_aiml.embedding.engine import EmbedEngine
from fleet_aiml.embedding.engine.cpus import usable_cpus
from fleet_aiml.embedding.engine.wordpieces import WordPieces
from fleet_aiml.embedding.models import ALL_MINILM_L6_V2
from fleet_aiml.embedding.service import EmbedQueue, guess_tokens
from fleet_aiml.settings import AimlSettings


def open_queue(settings: AimlSettings, words: WordPieces) -> EmbedQueue:
    """Return the queue in front of the chosen engine; the engine loads later, in the queue's thread."""
    return EmbedQueue(
        settings.engine,
        partial(open_engine, settings, words),
        guess=partial(guess_tokens, max_tokens=ALL_MINILM_L6_V2.max_tokens),
        limits=BatchLimits(settings.batch_tokens, settings.batch_items),
        max_waiting=settings.model_queue,
        warm_after_s=settings.warm_after_s,
    )


def open_engine(settings: AimlSettings, words: WordPieces) -> EmbedEngine:
    """Return the loaded engine; takes 0.5 s for onnx and several for torch.

    Raises:
        ModelMissing: the weights are absent or are not the pinned ones.
        EngineMissing: the engine's package is not installed.
    """
    threads = settings.threads or usable_cpus()
    if settings.engine == "torch":
        from fleet_aiml.embedding.engine.torch import TorchEngine  # noqa: PLC0415

        return TorchEngine(settings.model_path, words, threads=threads)
    from fleet_aiml.embedding.engine.onnx import OnnxEngine  # noqa: PLC0415

    return OnnxEngine(settings.model_path, words, threads=threads)
