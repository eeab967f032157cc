"""Makes the modules of scripts/ importable, as they are when one of them runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SCRIPTS = str(Path(__file__).resolve().parents[2] / "scripts")
if SCRIPTS not in sys.path:
    sys.path.insert(0, SCRIPTS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rendering a fleet starts kubectl and reads all schemas: it may take long on a busy machine."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(60))
