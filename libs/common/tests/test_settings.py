from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict

from fleet_common.settings import ServiceSettings, SettingsError, describe


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="FLEET_TEST_")

    database_url: SecretStr = Field(description="Where the data lives.")


def test_a_missing_setting_is_a_sentence_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FLEET_TEST_DATABASE_URL", raising=False)
    with pytest.raises(SettingsError, match=r"^FLEET_TEST_DATABASE_URL: is not set$"):
        Settings.read()


def test_a_wrong_setting_is_named_and_its_value_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLEET_TEST_DATABASE_URL", "postgres://u:secret@h/d")
    monkeypatch.setenv("FLEET_TEST_PORT", "eighty-topsecret")
    with pytest.raises(SettingsError, match=r"^FLEET_TEST_PORT") as caught:
        Settings.read()
    assert "secret" not in str(caught.value)


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_TEST_DATABASE_URL", "x")
    monkeypatch.setenv("FLEET_TEST_ALLOWED_HOSTS", "a.example, b.example,")
    assert Settings.read().allowed_hosts == ("a.example", "b.example")


def test_settings_can_be_read_from_a_mapping() -> None:
    settings = Settings.read({"FLEET_TEST_DATABASE_URL": "x", "FLEET_TEST_SLOTS": "3", "HOME": "/"})
    assert settings.slots == 3


def test_settings_are_frozen() -> None:
    settings = Settings.read({"FLEET_TEST_DATABASE_URL": "x"})
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


def test_description_masks_secrets_and_names_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_TEST_DATABASE_URL", "postgres://u:hunter2@h/d")
    monkeypatch.setenv("FLEET_TEST_KEYS_FILE", "keys.json")
    rows = {row.variable: row for row in describe(Settings.read())}
    assert rows["FLEET_TEST_DATABASE_URL"].value == "**********"
    assert rows["FLEET_TEST_KEYS_FILE"].value == str(Path("keys.json"))
    assert rows["FLEET_TEST_KEYS_FILE"].source == "environment"
    assert (rows["FLEET_TEST_SLOTS"].value, rows["FLEET_TEST_SLOTS"].source) == ("64", "default")
    assert rows["FLEET_TEST_STDIO_KEY"].value == ""
    assert rows["FLEET_TEST_ALLOWED_HOSTS"].value == ""
