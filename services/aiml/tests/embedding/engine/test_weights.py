"""Only the pinned files are loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fleet_aiml.embedding.engine import weights
from fleet_aiml.embedding.engine.weights import PACKAGE, TOKENIZER_FILE, model_folder, verified
from fleet_aiml.errors import ModelMissing


def test_the_package_is_found_and_never_imported() -> None:
    assert (model_folder(None) / "model.safetensors").is_file()
    assert PACKAGE not in sys.modules


def test_a_folder_of_ones_own_wins(tmp_path: Path) -> None:
    assert model_folder(tmp_path) == tmp_path


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package_here")
    with pytest.raises(ModelMissing, match="FLEET_AIML_MODEL_PATH"):
        model_folder(None)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    real = (model_folder(None) / TOKENIZER_FILE).read_bytes()
    (tmp_path / TOKENIZER_FILE).write_bytes(real.replace(b"256", b"257", 1) + b" ")
    with pytest.raises(ModelMissing, match="is not the pinned file"):
        verified(tmp_path, TOKENIZER_FILE)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"no readable tokenizer\.json"):
        verified(tmp_path, TOKENIZER_FILE)
