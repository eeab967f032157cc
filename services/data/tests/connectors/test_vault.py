from __future__ import annotations

import pytest
from pydantic import SecretStr

from fleet_common.errors import NotConfigured
from fleet_common.settings import SettingsError
from fleet_data.connectors.errors import Unreadable
from fleet_data.connectors.vault import Vault

OLD, NEW = (
    SecretStr("an-old-key-of-at-least-32-characters"),
    SecretStr("the-new-key-of-at-least-32-letters"),
)
HERE = ("demo", "google", "", "1")


def test_what_was_sealed_opens_in_its_place_and_looks_different_each_time() -> None:
    vault = Vault([NEW])
    first, second = (vault.seal(b"token", place=HERE) for _ in range(2))
    assert first != second
    assert b"token" not in first
    assert vault.open(first, place=HERE) == b"token"


@pytest.mark.parametrize(
    "place",
    [("other", "google", "", "1"), ("demo", "hubspot", "", "1"), ("demo", "google", "", "2"),
     ("demogoogle", "", "", "1"), ("demo", "google", "1")],
)  # fmt: skip
def test_a_sealed_text_in_another_place_opens_nothing(place: tuple[str, ...]) -> None:
    vault = Vault([NEW])
    with pytest.raises(Unreadable):
        vault.open(vault.seal(b"token", place=HERE), place=place)


@pytest.mark.parametrize("at", [0, 5, 20, -1])
def test_a_changed_bit_anywhere_opens_nothing(at: int) -> None:
    vault = Vault([NEW])
    sealed = bytearray(vault.seal(b"token", place=HERE))
    sealed[at] ^= 1
    with pytest.raises(Unreadable):
        vault.open(bytes(sealed), place=HERE)
    with pytest.raises(Unreadable):
        vault.open(bytes(sealed[:10]), place=HERE)


def test_the_newest_key_seals_and_every_key_opens() -> None:
    sealed = Vault([OLD]).seal(b"token", place=HERE)
    both = Vault([OLD, NEW])
    assert both.open(sealed, place=HERE) == b"token"
    assert not sealed.startswith(both.newest)
    anew = both.seal(b"token", place=HERE)
    assert Vault([NEW]).open(anew, place=HERE) == b"token"
    with pytest.raises(Unreadable):
        Vault([OLD]).open(anew, place=HERE)


def test_without_a_key_nothing_is_kept_and_a_short_one_stops_the_start() -> None:
    with pytest.raises(NotConfigured, match="FLEET_DATA_CREDENTIALS_KEYS"):
        Vault([]).seal(b"token", place=HERE)
    with pytest.raises(SettingsError, match="32 characters") as caught:
        Vault([SecretStr("short-secret")])
    assert "short-secret" not in str(caught.value)
