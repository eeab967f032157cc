"""Exports on a database of the test's own, or on the demo data, with a folder of the test's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from fleet_common.metrics import Metrics
from fleet_data.pool import Database
from fleet_data.settings import Settings
from fleet_data.transfer.imports import Imports
from fleet_data.transfer.opening import open_transfers
from fleet_data.transfer.service import Exports

OpenExports = Callable[..., AbstractAsyncContextManager[Exports]]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The folder for files."""
    return tmp_path / "files"


@pytest.fixture
def exporting(database: Database, settings: Settings, files: Path) -> OpenExports:
    """Opens exports on this test's database: `exporting(export_mb=1)`."""

    @asynccontextmanager
    async def opened(on: Database = database, **more: object) -> AsyncGenerator[Exports]:
        chosen = settings.model_copy(update={"files_dir": files, "tasks_redelivery_s": 2.0, **more})
        async with open_transfers(chosen, on, Metrics("data", "1")) as (exports, _):
            yield exports

    return opened


@pytest.fixture
async def imports(database: Database, settings: Settings, files: Path) -> AsyncGenerator[Imports]:
    """Imports of this test's database."""
    chosen = settings.model_copy(update={"files_dir": files, "import_mb": 1})
    async with open_transfers(chosen, database, Metrics("data", "1")) as (_, imports):
        yield imports


@pytest.fixture
async def exports(exporting: OpenExports) -> AsyncGenerator[Exports]:
    """Exports of this test's database."""
    async with exporting() as exports:
        yield exports
