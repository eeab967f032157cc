"""Our checks against signatures made by the providers' own clients, and against every kind of damage."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

# It comes without types.
from hubspot.utils.signature import Signature  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.signature import SignatureVerifier
from stripe import WebhookSignature

from fleet_common.testing.npm import NODE, npm_packages
from fleet_common.webhooks import PROVIDERS, SignatureRefused, SignedRequest

NOW = 1_800_000_000
SECRET, OLD = "whsec_8f742231b10e8888abcd99yyyzzz85a5", "whsec_the-one-before-this-one"
URL = "https://fleet.example.com/webhooks/hubspot"
BODY = json.dumps({"id": "evt_1", "event_id": "Ev1", "text": "Grüße"}).encode()
HUBSPOT = json.dumps([{"eventId": 1, "subscriptionId": 2, "attemptNumber": 0}]).encode()
NAMES = ["github", "stripe", "slack", "hubspot"]


def signed(
    provider: str, body: bytes = BODY, secret: str = SECRET, at: int = NOW, url: str = URL
) -> SignedRequest:
    """Return a request signed by the provider's own client, except GitHub's (see below)."""
    text = body.decode()
    headers: dict[str, dict[str, str]] = {
        "github": {
            "x-hub-signature-256": f"sha256={_hmac(secret, body).hex()}",
            "x-github-delivery": "d1",
        },
        "stripe": {
            "stripe-signature": f"t={at},"
            f"v1={WebhookSignature._compute_signature(f'{at}.{text}', secret)},v0=other"
        },
        "slack": {
            "x-slack-request-timestamp": str(at),
            "x-slack-signature": SignatureVerifier(secret).generate_signature(
                timestamp=str(at), body=body
            )
            or "",
        },
        "hubspot": {
            "x-hubspot-request-timestamp": str(at * 1000),
            "x-hubspot-signature-v3": Signature.get_signature(
                secret, text, "v3", url, "POST", str(at * 1000)
            ),
        },
    }
    return SignedRequest("POST", url, headers[provider], body)


def _hmac(secret: str, body: bytes) -> bytes:
    return hmac.digest(secret.encode(), body, hashlib.sha256)


def accepts(provider: Any, request: SignedRequest, *secrets: str, now: float = NOW) -> bool:
    return PROVIDERS[provider].check(request, [s.encode() for s in secrets or (SECRET,)], now)


@pytest.mark.parametrize("provider", NAMES)
def test_what_the_providers_client_signs_is_accepted(provider: str) -> None:
    assert accepts(provider, signed(provider))


def octokit_signature(secret: str, text: str) -> str:
    packages = npm_packages(Path(__file__).parent / "npm/package.json")
    script = (
        "import {sign} from '@octokit/webhooks-methods';"
        f"console.log(await sign({json.dumps(secret)}, {json.dumps(text)}))"
    )
    command = [str(NODE), "--input-type=module", "-e", script]
    made = subprocess.run(command, cwd=packages, capture_output=True, check=True, text=True)
    return made.stdout.strip()


@pytest.mark.timeout(60)  # npm installs it, the first time
def test_what_githubs_own_library_signs_is_accepted() -> None:
    header = {"x-hub-signature-256": octokit_signature(SECRET, BODY.decode())}
    assert accepts("github", SignedRequest("POST", URL, header, BODY))


def test_githubs_published_example_is_accepted() -> None:
    # docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation"
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    request = SignedRequest(
        "POST", URL, {"x-hub-signature-256": f"sha256={digest}"}, b"Hello, World!"
    )
    assert accepts("github", request, "It's a Secret to Everybody")


def test_slacks_published_example_is_accepted() -> None:
    # api.slack.com, "Verifying requests from Slack"
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"
        b"%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "x-slack-request-timestamp": "1531420618",
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    request = SignedRequest("POST", URL, headers, body)
    secret = "8f742231b10e8888abcd99yyyzzz85a5"
    assert accepts("slack", request, secret, now=1531420618)
    assert not accepts("slack", request, secret)


def test_hubspot_signs_the_address_with_its_escapes_undone() -> None:
    request = signed("hubspot", url="https://x.example/w?next=/a:b@c")
    assert accepts("hubspot", replace(request, url="https://x.example/w?next=%2Fa%3ab%40c"))


@pytest.mark.parametrize("provider", NAMES)
def test_the_old_secret_counts_while_it_is_listed(provider: str) -> None:
    assert accepts(provider, signed(provider, secret=OLD), SECRET, OLD)
    assert not accepts(provider, signed(provider, secret=OLD), SECRET)


@pytest.mark.parametrize("provider", ["stripe", "slack", "hubspot"])
@pytest.mark.parametrize(
    ("seconds", "accepted"), [(299, True), (-299, True), (301, False), (-301, False)]
)
def test_a_signed_time_must_be_within_five_minutes(
    provider: str, seconds: int, accepted: bool
) -> None:
    assert accepts(provider, signed(provider), now=NOW + seconds) is accepted


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-hub-signature-256": "", "stripe-signature": "", "x-slack-signature": ""},
        {"stripe-signature": f"t={NOW},t={NOW},v1=x"},
        {"stripe-signature": "t=²,v1=x", "x-slack-request-timestamp": "²"},
        {"x-hubspot-request-timestamp": "1e9", "x-slack-request-timestamp": "-1"},
        {"x-hubspot-request-timestamp": "9" * 400},
    ],
    ids=str,
)
def test_headers_that_are_missing_or_nonsense_are_refused(
    provider: Any, headers: dict[str, str]
) -> None:
    with pytest.raises(SignatureRefused):
        PROVIDERS[provider].verify(
            SignedRequest("POST", URL, headers, BODY), [SECRET.encode()], NOW
        )


@pytest.mark.parametrize("provider", NAMES)
@settings(deadline=None)
@given(data=st.data())
def test_any_flipped_bit_of_the_body_is_refused(provider: str, data: st.DataObject) -> None:
    request = signed(provider)
    body = bytearray(request.body)
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert not accepts(provider, replace(request, body=bytes(body)))


@pytest.mark.parametrize("provider", NAMES)
@settings(deadline=None)
@given(data=st.data())
def test_any_other_character_of_signature_or_time_is_refused(
    provider: str, data: st.DataObject
) -> None:
    request = signed(provider)
    name = data.draw(st.sampled_from(sorted(set(request.headers) - {"x-github-delivery"})))
    value = request.headers[name]
    end = (
        value.index(",v0=") if provider == "stripe" else len(value)
    )  # v0 is not a signature of theirs
    at = data.draw(st.integers(0, end - 1))
    other = data.draw(st.characters(max_codepoint=255).filter(lambda c: c not in (value[at], " ")))
    changed = value[:at] + other + value[at + 1 :]
    assert not accepts(provider, replace(request, headers={**request.headers, name: changed}))


@settings(deadline=None)
@given(st.text(), st.text(), st.binary(max_size=200))
def test_no_header_upsets_a_scheme(value: str, method: str, body: bytes) -> None:
    names = {name for provider in NAMES for name in signed(provider).headers}
    request = SignedRequest(method, URL, dict.fromkeys(names, value), body)
    assert not any(accepts(provider, request) for provider in NAMES)


@pytest.mark.parametrize(
    ("provider", "delivery_id"), [("github", "d1"), ("stripe", "evt_1"), ("slack", "Ev1")]
)
def test_a_delivery_has_the_providers_id(provider: Any, delivery_id: str) -> None:
    assert PROVIDERS[provider].verify(signed(provider), [SECRET.encode()], NOW) == delivery_id


def test_hubspots_repeats_differ_in_the_count_of_attempts_only() -> None:
    again = HUBSPOT.replace(b'"attemptNumber": 0', b'"attemptNumber": 3')
    other = HUBSPOT.replace(b'"eventId": 1', b'"eventId": 9')
    ids = [
        PROVIDERS["hubspot"].verify(signed("hubspot", body), [SECRET.encode()], NOW)
        for body in (HUBSPOT, again, other)
    ]
    assert ids[0] == ids[1] != ids[2]


def test_a_form_of_slack_has_no_id() -> None:
    request = signed("slack", b"command=%2Ffleet")
    assert PROVIDERS["slack"].verify(request, [SECRET.encode()], NOW) is None
