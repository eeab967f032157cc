"""Make the golden vectors again: `make_golden.py MODEL_FOLDER GOLDEN_FOLDER`.

Reads `texts.json` in GOLDEN_FOLDER and writes `vectors.npy` beside it: what sentence-transformers computes
in fp32 on the CPU, one text at a time. Needs the extra [torch]; the tests that read the result do not.
"""
# ruff: noqa: INP001 - a script, run by hand

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


def main(model: Path, golden: Path) -> None:
    """Write the vectors."""
    # Any: the extra is not installed where this is type-checked.
    transformer: Any = import_module("sentence_transformers").SentenceTransformer(
        str(model), device="cpu"
    )
    texts = json.loads((golden / "texts.json").read_text())
    vectors = transformer.encode(texts, batch_size=1, normalize_embeddings=True)
    np.save(golden / "vectors.npy", vectors.astype(np.float32))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder with the model")
    parser.add_argument("golden", type=Path, help="folder with texts.json")
    arguments = parser.parse_args()
    main(arguments.model, arguments.golden)
