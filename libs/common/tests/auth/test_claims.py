"""What the claims of a token must say before they count."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_common.auth.claims import ClaimRules, TokenRefused

NOW = 1_800_000_000.0
RULES = ClaimRules("https://idp.example", "tenant", "roles")


def good(**changed: Any) -> dict[str, Any]:
    usual = {
        "iss": "https://idp.example",
        "sub": "ada",
        "aud": "https://fleet.example/data/mcp",
        "tenant": "acme",
        "roles": ["viewer"],
        "scope": "data:read data:write",
        "iat": int(NOW) - 5,
        "exp": int(NOW) + 60,
        "jti": "t1",
    }
    return {name: value for name, value in (usual | changed).items() if value is not None}


def test_everything_that_is_said_is_kept() -> None:
    claims = RULES.verified(good(), NOW)
    assert (claims.subject, claims.tenant, claims.token_id) == ("ada", "acme", "t1")
    assert claims.roles == {"viewer"}
    assert claims.scopes == {"data:read", "data:write"}
    assert claims.audiences == {"https://fleet.example/data/mcp"}
    assert (claims.issued_at, claims.expires_at) == (NOW - 5, NOW + 60)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iss": "https://idp.example/"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"aud": None}, "no audience"),
        ({"aud": []}, "no audience"),
        ({"aud": [1, ""]}, "no audience"),
        ({"sub": None}, "no usable subject"),
        ({"sub": ""}, "no usable subject"),
        ({"sub": "a\nb"}, "no usable subject"),
        ({"sub": "a" * 256}, "no usable subject"),
        ({"tenant": None}, "no usable tenant"),
        ({"tenant": ["acme"]}, "no usable tenant"),
        ({"tenant": "../acme"}, "no usable tenant"),
        ({"jti": 7}, "no usable token id"),
        ({"exp": None}, "no expiry"),
        ({"exp": int(NOW)}, "expired"),
        ({"exp": str(int(NOW) + 60)}, "exp is no date"),
        ({"exp": True}, "exp is no date"),
        ({"exp": float("inf")}, "exp is no date"),
        ({"exp": float("nan")}, "exp is no date"),
        ({"exp": 10**400}, "exp is no date"),
        ({"nbf": int(NOW) + 11}, "not valid yet"),
        ({"nbf": -1}, "nbf is no date"),
        ({"iat": int(NOW) + 11}, "not valid yet"),
        ({"iat": int(NOW) + 11, "nbf": int(NOW)}, "not valid yet"),
        ({"iat": None}, "neither nbf nor iat"),
        ({"cnf": {"jkt": "x"}}, "bound to a key"),
    ],
    ids=str,
)
def test_a_token_that_lacks_something_is_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(TokenRefused, match=reason):
        RULES.verified(good(**changed), NOW)


@pytest.mark.parametrize(
    "changed",
    [
        {"nbf": int(NOW) + 9},  # the issuer's clock is a little ahead
        {"iat": None, "nbf": int(NOW) - 5},
        {"exp": NOW + 1.5},
        {"jti": None},
    ],
    ids=str,
)
def test_a_token_that_says_enough_is_taken(changed: dict[str, Any]) -> None:
    assert RULES.verified(good(**changed), NOW).subject == "ada"


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("https://acme.example/roles", {"https://acme.example/roles": ["viewer"]}),
        ("realm_access.roles", {"realm_access": {"roles": ["viewer"]}}),
        ("groups", {"groups": "viewer"}),
    ],
)
def test_roles_are_found_where_issuers_put_them(name: str, stated: dict[str, Any]) -> None:
    rules = ClaimRules("https://idp.example", "tenant", name)
    assert rules.verified(good(roles=None, **stated), NOW).roles == {"viewer"}


@pytest.mark.parametrize("stated", ["viewer fleet:registry", ["fleet:registry", "viewer"]])
def test_an_issuer_cannot_give_the_fleets_own_roles(stated: Any) -> None:
    assert RULES.verified(good(roles=stated), NOW).roles == {"viewer"}


@pytest.mark.parametrize("stated", [None, 7, {"viewer": True}, [1, None], "realm.roles"])
def test_roles_of_another_shape_grant_nothing(stated: Any) -> None:
    assert not RULES.verified(good(roles=stated), NOW).roles & {"viewer", "admin"}
