from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from fleet_common.settings import SettingsError
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

NEEDED = {"FLEET_GATEWAY_INTERNAL_PRIVATE_KEY_FILE": "private.pem"}


def read(**variables: str) -> Settings:
    return Settings.read({**NEEDED, **{f"FLEET_GATEWAY_{k}": v for k, v in variables.items()}})


def test_a_service_may_have_several_urls_and_a_fourth_service_needs_no_code() -> None:
    urls = read(
        SERVICES="data=http://a:8081/,data=http://b:8081,voice=https://voice.example"
    ).backends()
    assert urls == {
        "data": ("http://a:8081", "http://b:8081"),
        "voice": ("https://voice.example",),
    }


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SERVICES", "http://data:8081", "does not begin with the name of a service"),
        ("SERVICES", "data=data:8081", "expected a URL such as http://data:8081"),
        ("SERVICES", "data=http://data:8081/mcp", "expected a URL"),
        ("FALLBACKS", "llm_*=nobody", "fallbacks name unknown services: nobody"),
        ("CHANGED_TOOLS", "ignore", "CHANGED_TOOLS"),
        ("SERVICES", "key=http://data:8081", "does not begin with the name of a service"),
        ("KUBERNETES_URL", "http://10.0.0.1", "KUBERNETES_URL"),
    ],
)
def test_a_wrong_setting_stops_the_start_with_a_sentence(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read(**{name: value})


def test_fallbacks_are_globs_and_services_in_order() -> None:
    settings = read(FALLBACKS="llm_*=aiml,*=data")
    assert settings.fallback_services() == (("llm_*", "aiml"), ("*", "data"))


@pytest.mark.parametrize(
    ("url", "is_taken"),
    [
        ("https://login.example/token", True),
        ("http://127.0.0.1:9000/token", True),
        ("http://localhost/token", True),
        ("http://login.example/token", False),
        ("http://127.0.0.1.login.example/token", False),
        ("login.example/token", False),
    ],
)
def test_a_client_secret_goes_nowhere_in_plain_text(
    keypair: tuple[Path, Path], tmp_path: Path, url: str, is_taken: bool
) -> None:
    settings = read(
        EXCHANGE_URL=url,
        INTERNAL_PRIVATE_KEY_FILE=str(keypair[0]),
        KEYS_FILE=str(tmp_path / "keys.json"),
    )
    with nullcontext() if is_taken else pytest.raises(SettingsError, match="EXCHANGE_URL"):
        create_gateway(SERVICE, settings)


def test_where_the_cluster_names_the_services_a_laptops_are_not_among_them() -> None:
    assert read(REGISTRY="kubernetes", FALLBACKS="llm_*=aiml-small").backends() == {}
    named = read(REGISTRY="kubernetes", SERVICES="data=http://data:8081")
    assert named.backends() == {"data": ("http://data:8081",)}
