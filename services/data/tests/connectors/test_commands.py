"""`python -m fleet_data reseal`, as an operator runs it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fleet_data.connectors.commands import reseal_command
from fleet_data.settings import Settings


def test_what_was_sealed_before_is_counted_once_and_a_missing_key_is_named(
    settings: Settings, connected: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(connected("slack", token="xoxb-1"))
    old = settings.credentials_keys[0].get_secret_value()
    keys = [f"{old},the-next-credentials-key-of-32-chars", "the-next-credentials-key-of-32-chars"]
    both, only_new = (
        Settings.model_validate({**settings.model_dump(), "credentials_keys": each})
        for each in keys
    )
    assert reseal_command(only_new, []) == 1
    assert "FLEET_DATA_CREDENTIALS_KEYS" in capsys.readouterr().err
    assert reseal_command(both, []) == 0
    assert capsys.readouterr().out == "1 sealed anew; the older keys may go\n"
    assert reseal_command(only_new, []) == 0
    assert capsys.readouterr().out.startswith("0 sealed anew")
