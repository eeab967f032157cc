"""Everything here starts the fleet."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in this very hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder; two workers can share it, each with a fleet of its own."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(180))
            fixtures = getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("laptop" if "laptop" in fixtures else "fleet"))
