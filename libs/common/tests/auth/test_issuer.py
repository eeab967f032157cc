"""Which published keys are used, and where they are looked for."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from fleet_common.auth.issuer import IssuerKeys, _Unusable, metadata_urls, signing_keys
from fleet_common.errors import Unavailable
from fleet_common.http import open_client
from fleet_common.testing import wait_until
from fleet_common.testing.issuer import Issuer, issuer_server
from fleet_common.testing.upstream import status, upstream_server


@pytest.fixture
async def issuer() -> AsyncGenerator[Issuer]:
    async with issuer_server() as server:
        yield server


def published(key: Any, **more: Any) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": "k", **more}


def weak_rsa() -> RSAKey:
    with warnings.catch_warnings(action="ignore"):
        return RSAKey.generate_key(1024)


EC = ECKey.generate_key("P-256")
RSA = RSAKey.generate_key(2048)


@pytest.mark.parametrize(
    ("row", "algorithms"),
    [
        (published(EC), {"ES256"}),
        (published(EC, use="sig", alg="ES256"), {"ES256"}),
        (published(RSA), {"RS256", "PS256"}),
        (published(RSA, alg="PS256"), {"PS256"}),
    ],
)
def test_a_key_may_do_what_its_type_and_its_issuer_allow(
    row: dict[str, Any], algorithms: set[str]
) -> None:
    assert signing_keys({"keys": [row]})["k"].algorithms == algorithms


@pytest.mark.parametrize(
    "row",
    [
        published(OctKey.generate_key(256)),
        published(OKPKey.generate_key("Ed25519")),
        published(ECKey.generate_key("P-384")),
        published(weak_rsa()),
        published(EC, use="enc"),
        published(RSA, alg="RS512"),
        published(EC, kid=7),
        published(EC, x="AA"),
        {"kid": "k", "kty": "RSA", "n": "AA"},
        {"kid": "k"},
        "text",
    ],
    ids=[
        *("symmetric", "ed25519", "p-384", "weak-rsa", "for-encryption", "unknown-algorithm"),
        *("numeric-id", "broken-point", "broken-rsa", "no-type", "no-object"),
    ],
)
@pytest.mark.filterwarnings("ignore:Key size should be")
def test_a_key_that_cannot_be_used_does_not_spoil_the_others(row: Any) -> None:
    assert set(signing_keys({"keys": [row, published(EC, kid="good")]})) == {"good"}
    with pytest.raises(_Unusable):
        signing_keys({"keys": [row]})


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": []}])
def test_a_set_without_keys_is_unusable(document: dict[str, Any]) -> None:
    with pytest.raises(_Unusable, match="no key"):
        signing_keys(document)


def test_metadata_is_where_both_standards_put_it() -> None:
    assert metadata_urls("https://idp.example/realms/acme/") == (
        "https://idp.example/.well-known/oauth-authorization-server/realms/acme",
        "https://idp.example/realms/acme/.well-known/openid-configuration",
    )


async def test_metadata_that_names_another_issuer_is_not_used(issuer: Issuer) -> None:
    async with upstream_server() as impostor, open_client(name="issuer") as client:
        lie = f'{{"issuer": "{issuer.url}", "jwks_uri": "{issuer.url}/jwks"}}'
        for url in metadata_urls(impostor.url):
            impostor.answer(url.removeprefix(impostor.url), status(200, lie))
        with pytest.raises(Unavailable):
            await IssuerKeys(client, impostor.url).find(issuer.signing)


async def test_openid_metadata_does_where_there_is_no_other(issuer: Issuer) -> None:
    async with upstream_server() as openid, open_client(name="issuer") as client:
        oauth_url, openid_url = (url.removeprefix(openid.url) for url in metadata_urls(openid.url))
        facts = f'{{"issuer": "{openid.url}", "jwks_uri": "{issuer.url}/jwks"}}'
        openid.answer(oauth_url, status(404))
        openid.answer(openid_url, status(200, facts))
        assert await IssuerKeys(client, openid.url).find(issuer.signing)


@pytest.mark.parametrize("body", ["", "[]", "<html>", '{"keys": []}'])
async def test_a_damaged_key_set_keeps_the_keys_there_are(issuer: Issuer, body: str) -> None:
    async with upstream_server() as upstream, open_client(name="issuer") as client:
        good = f'{{"keys": [{json.dumps(published(EC))}]}}'
        upstream.answer("/jwks", status(200, good), status(200, body))
        keys = IssuerKeys(client, issuer.url, jwks_url=f"{upstream.url}/jwks", between_looks_s=0)
        assert await keys.find("k")
        assert keys.is_current is True
        with pytest.raises(Unavailable):
            await keys.find("other")
        assert await keys.find("k")
        assert keys.is_current is False


async def test_keys_that_moved_are_found_again(issuer: Issuer) -> None:
    async with upstream_server() as moving, open_client(name="issuer") as client:
        first, second = (f"{moving.url}/{name}" for name in ("first", "second"))
        where = metadata_urls(moving.url)[0].removeprefix(moving.url)
        says = (json.dumps({"issuer": moving.url, "jwks_uri": url}) for url in (first, second))
        moving.answer(where, *(status(200, text) for text in says))
        moving.answer("/first", status(200, json.dumps({"keys": [published(EC)]})), status(404))
        moving.answer("/second", status(200, json.dumps({"keys": [published(EC, kid="new")]})))
        keys = IssuerKeys(client, moving.url, between_looks_s=0)
        assert await keys.find("k")
        with pytest.raises(Unavailable):
            await keys.find("new")
        assert await keys.find("new")


@pytest.mark.parametrize("jwks_url", [None, 7, "ftp://x", "http://[", "//evil.example/jwks"])
async def test_metadata_without_a_usable_address_of_the_keys_is_a_failed_look(
    jwks_url: object,
) -> None:
    async with upstream_server() as odd, open_client(name="issuer") as client:
        where = metadata_urls(odd.url)[0].removeprefix(odd.url)
        odd.answer(where, status(200, json.dumps({"issuer": odd.url, "jwks_uri": jwks_url})))
        with pytest.raises(Unavailable):
            await IssuerKeys(client, odd.url).find("k")


async def test_keys_of_an_https_issuer_are_fetched_over_https_only() -> None:
    async with open_client(name="issuer") as client:
        keys = IssuerKeys(client, "https://idp.example")
        assert keys._secure("https://keys.example/jwks") == "https://keys.example/jwks"
        with pytest.raises(_Unusable):
            keys._secure("http://keys.example/jwks")


async def test_an_answer_that_cannot_be_unpacked_is_a_failed_look(issuer: Issuer) -> None:
    async with upstream_server() as upstream, open_client(name="issuer") as client:
        upstream.answer("/jwks", status(200, "no gzip", Content_Encoding="gzip"))
        keys = IssuerKeys(client, issuer.url, jwks_url=f"{upstream.url}/jwks")
        with pytest.raises(Unavailable):
            await keys.find("k")


async def test_a_key_that_a_look_under_way_brings_needs_no_other_look(issuer: Issuer) -> None:
    async with open_client(name="issuer") as client:
        keys = IssuerKeys(client, issuer.url, between_looks_s=0)
        first = asyncio.create_task(keys.find(issuer.signing))
        await wait_until(lambda: _reached(issuer, 1))
        second = asyncio.create_task(keys.find(issuer.signing))
        assert await first
        assert await second
    assert issuer.calls["/jwks"] == 1


async def test_keys_are_renewed_and_a_withdrawn_one_stops_working(issuer: Issuer) -> None:
    async with open_client(name="issuer") as client:
        keys = IssuerKeys(client, issuer.url, renew_s=0.02, between_looks_s=0)
        async with keys.watched():
            old = issuer.signing
            assert await keys.find(old)
            del issuer.keys[old]
            issuer.rotate()
            before = issuer.calls["/jwks"]
            await wait_until(lambda: _reached(issuer, before + 2))
            assert await keys.find(old) is None


async def _reached(issuer: Issuer, calls: int) -> bool:
    return issuer.calls["/jwks"] >= calls
