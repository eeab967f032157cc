"""The settings choose the engine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from fleet_aiml.embedding.engine.opening import open_engine, open_queue
from fleet_aiml.embedding.engine.wordpieces import WordPieces
from fleet_aiml.errors import EngineMissing, ModelMissing
from fleet_aiml.settings import AimlSettings


async def test_the_queue_answers_with_the_real_model(words: WordPieces) -> None:
    async with open_queue(AimlSettings(), words) as queue:
        (answer,) = await queue.submit(["hello world"])
    assert answer.vector.shape == (384,)
    assert answer.tokens == 4


async def test_a_folder_without_a_model_is_a_clear_error(words: WordPieces, tmp_path: Path) -> None:
    async with open_queue(AimlSettings(model_path=tmp_path), words) as queue:
        with pytest.raises(ModelMissing, match=r"no readable model\.safetensors"):
            await queue.submit(["hello"])


@pytest.mark.skipif(find_spec("torch") is not None, reason="the extra [torch] is installed")
def test_the_torch_engine_is_chosen_by_the_settings(words: WordPieces) -> None:
    with pytest.raises(EngineMissing):
        open_engine(AimlSettings(engine="torch"), words)
