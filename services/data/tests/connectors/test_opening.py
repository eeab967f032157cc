from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from fleet_common.errors import NotConfigured
from fleet_common.settings import SettingsError
from fleet_data.connectors.registry import PROVIDERS
from fleet_data.settings import Settings

Open = Callable[[Settings], AbstractAsyncContextManager[Any]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("connector_clients", "google=only-an-id"),
        ("connector_clients", "nobody=id:secret"),
        ("connector_urls", "google=http://169.254.169.254"),
        ("connector_urls", "google=ftp://files.example.com"),
        ("connector_urls", "google=https://example.com/elsewhere"),
        ("connector_urls", "nobody=https://example.com"),
        ("credentials_keys", "short"),
    ],
)
async def test_a_wrong_setting_stops_the_start_by_name_and_shows_no_value(
    settings: Settings, open_replica: Open, name: str, value: str
) -> None:
    wrong = Settings.model_validate({**settings.model_dump(), name: value})
    with pytest.raises(SettingsError, match=f"FLEET_DATA_{name.upper()}") as caught:
        async with open_replica(wrong):
            pass
    assert value not in str(caught.value)


async def test_a_provider_moves_to_another_address_with_all_of_its_urls(
    settings: Settings, open_replica: Open
) -> None:
    told = {"connector_urls": "hubspot=http://127.0.0.1:4005", "connector_clients": "hubspot=i:s:t"}
    chosen = Settings.model_validate({**settings.model_dump(), **told})
    async with open_replica(chosen) as credentials:
        provider = credentials.channel("hubspot").provider
        assert provider.api_url == "http://127.0.0.1:4005"
        assert provider.oauth.token_url == "http://127.0.0.1:4005/oauth/2026-03/token"
        assert provider.oauth.revoke_url.startswith("http://127.0.0.1:4005/")
        assert credentials.client("hubspot").secret.get_secret_value() == "s:t"
        with pytest.raises(NotConfigured, match="google=ID:SECRET"):
            credentials.client("google")


def test_every_provider_is_reached_over_tls_alone() -> None:
    for each in PROVIDERS:
        oauth = each.oauth
        urls = [each.api_url, *((oauth.authorize_url, oauth.token_url) if oauth else ())]
        assert all(url.startswith("https://") for url in urls), each.name
