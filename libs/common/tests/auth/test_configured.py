"""OAuth is configured wholly, securely, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_common.auth.configured import oauth_config
from fleet_common.settings import ServiceSettings, SettingsError

ISSUER: dict[str, Any] = {
    "oauth_issuer": "https://idp.example/acme",
    "public_url": "https://fleet.example/data/",
}
ASKED: dict[str, Any] = {
    "introspection_client_id": "fleet",
    "introspection_client_secret": "s3cret",
}


def test_without_an_issuer_there_is_no_oauth() -> None:
    assert oauth_config(ServiceSettings(public_url="https://fleet.example")) is None


def test_the_issuer_stays_as_it_is_written() -> None:
    config = oauth_config(ServiceSettings(**ISSUER))
    assert config is not None
    assert (config.issuer, config.public_url) == (
        "https://idp.example/acme",
        "https://fleet.example/data",
    )


def test_the_secret_shows_nowhere() -> None:
    asked = {**ISSUER, **ASKED, "introspection_url": "https://idp.example/introspect"}
    config = oauth_config(ServiceSettings(**asked))
    assert config is not None
    assert config.introspection is not None
    assert config.introspection.client_secret == "s3cret"
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    "url", ["http://localhost:9000", "http://127.0.0.1:9000/x", "http://[::1]:9"]
)
def test_a_laptop_needs_no_https(url: str) -> None:
    assert oauth_config(ServiceSettings(**{**ISSUER, "oauth_issuer": url}))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"public_url": None}, "FLEET_PUBLIC_URL is not set"),
        ({"oauth_issuer": None, "introspection_url": "https://x"}, "needs FLEET_OAUTH_ISSUER"),
        ({"oauth_issuer": "http://idp.example"}, "FLEET_OAUTH_ISSUER must begin with https://"),
        ({"oauth_issuer": "idp.example"}, "FLEET_OAUTH_ISSUER is not a URL"),
        ({"oauth_issuer": "https://idp.example?x=1"}, "FLEET_OAUTH_ISSUER is not a URL"),
        ({"public_url": "ftp://fleet.example"}, "FLEET_PUBLIC_URL must begin with https://"),
        ({"oauth_jwks_url": "http://idp.example/jwks"}, "FLEET_OAUTH_JWKS_URL must begin"),
        ({"oauth_algorithms": "RS256,HS256"}, "FLEET_OAUTH_ALGORITHMS: choose among RS256"),
        ({"oauth_algorithms": "none"}, "FLEET_OAUTH_ALGORITHMS: choose among RS256"),
        ({"oauth_algorithms": ""}, "FLEET_OAUTH_ALGORITHMS: choose among RS256"),
        ({"introspection_url": "https://idp.example/i"}, "needs FLEET_INTROSPECTION_CLIENT_ID"),
        (
            {"introspection_url": "https://idp.example/i", "introspection_client_id": "fleet"},
            "needs FLEET_INTROSPECTION_CLIENT_ID and FLEET_INTROSPECTION_CLIENT_SECRET",
        ),
    ],
    ids=str,
)
def test_half_a_configuration_stops_the_start(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        oauth_config(ServiceSettings(**(ISSUER | changed)))
