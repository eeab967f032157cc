"""`Embedder`: texts to vectors through the queue, with what each kind of text needs in front of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fleet_aiml.embedding.batches import Lane
from fleet_aiml.embedding.models import Embedding, Kind, ModelInfo, Vectors
from fleet_aiml.embedding.queue import BatchQueue
from fleet_common.deadline import remaining

EmbedQueue = BatchQueue[str, Embedding]
_LONGEST_WAIT_S = 300.0
_CHARACTERS_PER_TOKEN = 4  # English text gives about 4.7; code and other scripts less


class Embedder:
    """Embeds texts with one model."""

    def __init__(self, queue: EmbedQueue, info: ModelInfo) -> None:
        self._queue = queue
        self.info = info

    async def embed(
        self,
        texts: Sequence[str],
        *,
        kind: Kind,
        normalize: bool = True,
        lane: Lane = "interactive",
    ) -> tuple[Vectors, list[int]]:
        """Return (vectors, tokens): one row of shape (dimension,) and one token count per text, in order.

        Texts past `info.max_tokens` are cut, as the model was trained.

        Raises:
            ModelBusy: the queue is full; safe to retry after `retry_after_s`.
            DeadlineExceeded: the caller's time ran out.
            ModelMissing: the weights are not installed, or not the pinned ones.
        """
        prefix = self.info.prefix(kind)
        inputs = [prefix + text for text in texts]
        answers = await self._queue.submit(inputs, lane=lane, timeout_s=remaining(_LONGEST_WAIT_S))
        vectors = np.empty((len(texts), self.info.dimension), np.float32)
        for row, answer in enumerate(answers):
            vectors[row] = answer.vector
        return (unit(vectors) if normalize else vectors), [a.tokens for a in answers]


def unit(vectors: Vectors) -> Vectors:
    """Return the rows scaled to length 1; reduced precision leaves them up to 0.1 % off."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, 1e-12)
    return scaled


def guess_tokens(text: str, *, max_tokens: int) -> int:
    """Return about how many tokens a text has, from its length alone."""
    return min(max_tokens, len(text) // _CHARACTERS_PER_TOKEN + 2)
