"""The committed graph is what the script makes from the pinned model."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from fleet_aiml.embedding.engine.weights import model_folder

SCRIPT = Path(__file__).parents[3] / "scripts" / "make_graph.py"


def test_the_committed_graph_is_the_scripts(tmp_path: Path) -> None:
    made = tmp_path / "made.onnx"
    subprocess.run([sys.executable, SCRIPT, model_folder(None), made], check=True)
    committed = files("fleet_aiml.embedding") / "graph/minilm.onnx"
    assert made.read_bytes() == committed.read_bytes()
