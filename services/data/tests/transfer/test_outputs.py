from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from fleet_data.transfer.errors import FolderFull, TransferTooLarge
from fleet_data.transfer.outputs import Measured


def test_a_full_disk_is_told_as_such() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file, pytest.raises(FolderFull, match="full"):
        Measured(file, 100).write(b"x")


def test_a_file_knows_its_digest_and_grows_no_larger_than_it_may() -> None:
    kept = io.BytesIO()
    file = Measured(kept, 2)
    file.write(b"ab")
    assert (file.bytes, file.sha256) == (2, hashlib.sha256(b"ab").hexdigest())
    with pytest.raises(TransferTooLarge):
        file.write(b"c")
    file.discard()
    file.write(b"d")
    assert kept.getvalue() == b"ab"
