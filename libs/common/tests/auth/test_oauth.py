"""Access tokens from a real issuer on a real socket: what opens a door, what does not, and what survives."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.registry import HeaderParameter

from fleet_common.auth.claims import TokenRefused
from fleet_common.auth.introspection import Introspector
from fleet_common.auth.oauth import Introspection, OAuth, OAuthConfig
from fleet_common.auth.revocation import Revocations
from fleet_common.clock import ManualClock
from fleet_common.errors import Unavailable
from fleet_common.metrics import Metrics
from fleet_common.policy import PolicyFile
from fleet_common.testing.issuer import INTROSPECTION_CLIENT, Issuer, issuer_server, unsigned_token
from fleet_common.testing.waiting import wait_until

DOOR = "https://fleet.example/data/mcp"


def resource_server(issuer: Issuer, **config: Any) -> OAuth:
    facts = OAuthConfig(issuer=issuer.url, public_url="https://fleet.example/data", **config)
    return OAuth(facts, Revocations(None), PolicyFile(), Metrics("data", "0"))


@pytest.fixture
async def issuer() -> AsyncGenerator[Issuer]:
    async with issuer_server() as server:
        yield server


@pytest.fixture
async def oauth(issuer: Issuer) -> AsyncGenerator[OAuth]:
    subject = resource_server(issuer)
    async with subject.opened():
        yield subject


async def test_a_good_token_becomes_its_caller(issuer: Issuer, oauth: OAuth) -> None:
    verified = await oauth.verify(issuer.token(aud=DOOR, scope="data:read data:write"), DOOR)
    assert verified is not None
    caller, expires_at = verified
    assert (caller.subject, caller.tenant, caller.kind) == ("oauth:ada", "acme", "oauth")
    assert caller.roles == {"viewer"}
    assert 290 < expires_at - time.time() <= 300


async def test_one_token_may_be_for_several_doors(issuer: Issuer, oauth: OAuth) -> None:
    token = issuer.token(aud=[DOOR, "https://fleet.example/devops/mcp"])
    assert await oauth.verify(token, DOOR)
    assert await oauth.verify(token, "https://fleet.example/devops/mcp")
    assert await oauth.verify(token, "https://fleet.example/mcp") is None


@pytest.mark.parametrize(
    "key", [RSAKey.generate_key(2048), ECKey.generate_key("P-256")], ids=["rsa", "ec"]
)
async def test_keys_of_both_types_sign(issuer: Issuer, oauth: OAuth, key: Any) -> None:
    issuer.rotate(key)
    assert await oauth.verify(issuer.token(aud=DOOR), DOOR)


async def test_pss_signatures_are_read(issuer: Issuer, oauth: OAuth) -> None:
    issuer.rotate(RSAKey.generate_key(2048))
    assert await oauth.verify(issuer.token({"alg": "PS256"}, aud=DOOR), DOOR)


@pytest.mark.parametrize("kind", ["JWT", "application/at+jwt", "AT+JWT"])
async def test_the_types_of_access_tokens_are_read(issuer: Issuer, oauth: OAuth, kind: str) -> None:
    assert await oauth.verify(issuer.token({"typ": kind}, aud=DOOR), DOOR)


@pytest.mark.parametrize(
    "header",
    [
        {"typ": None},
        {"typ": "logout+jwt"},
        {"typ": "fleet+jwt"},
        {"kid": None},
        {"kid": "unknown"},
        {"kid": "../../etc/passwd"},
    ],
    ids=str,
)
async def test_a_header_that_is_not_an_access_token_s_opens_nothing(
    issuer: Issuer, oauth: OAuth, header: dict[str, Any]
) -> None:
    assert await oauth.verify(issuer.token(header, aud=DOOR), DOOR) is None


async def test_an_extension_that_we_do_not_know_is_not_ignored(
    issuer: Issuer, oauth: OAuth
) -> None:
    header = {"alg": "ES256", "typ": "at+jwt", "kid": issuer.signing, "crit": ["exp"], "exp": 1}
    knows_it = JWSRegistry({"exp": HeaderParameter("Expiry", "int")}, ["ES256"])
    key = issuer.keys[issuer.signing]
    token = jwt.encode(header, issuer.claims(aud=DOOR), key, registry=knows_it)
    assert await oauth.verify(token, DOOR) is None


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://fleet.example/devops/mcp"},
        {"aud": f"{DOOR}/"},
        {"aud": None},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"exp": None},
        {"nbf": 2**40},
        {"tenant": None},
        {"sub": None},
    ],
    ids=str,
)
async def test_claims_for_somebody_else_open_nothing(
    issuer: Issuer, oauth: OAuth, claims: dict[str, Any]
) -> None:
    assert await oauth.verify(issuer.token(**({"aud": DOOR} | claims)), DOOR) is None


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, "HS256"])
async def test_a_token_without_a_signature_opens_nothing(
    issuer: Issuer, oauth: OAuth, algorithm: str | None
) -> None:
    header = {"alg": algorithm, "typ": "at+jwt", "kid": issuer.signing}
    assert await oauth.verify(unsigned_token(header, issuer.claims(aud=DOOR)), DOOR) is None


async def test_the_public_key_is_no_shared_secret(issuer: Issuer, oauth: OAuth) -> None:
    issuer.rotate(RSAKey.generate_key(2048))
    header = {"alg": "HS256", "typ": "at+jwt", "kid": issuer.signing}
    public = issuer.keys[issuer.signing]
    for secret in (
        public.as_pem(private=False),
        json.dumps(public.as_dict(private=False)).encode(),
    ):
        unsealed = unsigned_token(header, issuer.claims(aud=DOOR)).rpartition(".")[0]
        mac = hmac.digest(secret, unsealed.encode(), "sha256")
        seal = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        assert await oauth.verify(f"{unsealed}.{seal}", DOOR) is None


async def test_a_key_in_the_header_is_not_believed(issuer: Issuer, oauth: OAuth) -> None:
    own = ECKey.generate_key("P-256")
    header = {
        "alg": "ES256",
        "typ": "at+jwt",
        "kid": issuer.signing,
        "jwk": own.as_dict(private=False),
    }
    assert await oauth.verify(jwt.encode(header, issuer.claims(aud=DOOR), own), DOOR) is None


async def test_a_key_is_used_for_its_own_algorithm_only(issuer: Issuer, oauth: OAuth) -> None:
    issuer.rotate(RSAKey.generate_key(2048))
    rsa = issuer.signing
    issuer.rotate()
    assert await oauth.verify(issuer.token({"kid": rsa}, aud=DOOR), DOOR) is None


async def test_only_the_chosen_algorithms_are_accepted(issuer: Issuer) -> None:
    only_rsa = resource_server(issuer, algorithms=("RS256",))
    async with only_rsa.opened():
        assert await only_rsa.verify(issuer.token(aud=DOOR), DOOR) is None


@pytest.mark.parametrize("cut", [0, 1, 10, 60, -1, -20])
async def test_a_cut_token_opens_nothing(issuer: Issuer, oauth: OAuth, cut: int) -> None:
    assert await oauth.verify(issuer.token(aud=DOOR)[:cut], DOOR) is None


async def test_an_oversized_token_opens_nothing(issuer: Issuer, oauth: OAuth) -> None:
    assert await oauth.verify(issuer.token(aud=DOOR, padding="x" * 20_000), DOOR) is None


async def test_a_verified_token_is_known_for_a_minute_and_never_past_its_expiry(
    issuer: Issuer,
) -> None:
    now = time.time()
    facts = OAuthConfig(issuer=issuer.url, public_url="https://fleet.example/data")
    oauth = OAuth(facts, Revocations(None), PolicyFile(), Metrics("data", "0"), now=lambda: now)
    async with oauth.opened():
        long, short = (issuer.token(aud=DOOR, exp=int(now) + life) for life in (300, 30))
        assert await oauth.verify(long, DOOR)
        assert await oauth.verify(short, DOOR)
        # A key that the issuer withdraws no longer verifies anything that is not known already.
        issuer.keys.clear()
        issuer.rotate()
        assert await oauth.verify(issuer.token(aud=DOOR), DOOR)
        now += 31
        assert await oauth.verify(short, DOOR) is None
        assert await oauth.verify(long, DOOR)
        now += 30
        assert await oauth.verify(long, DOOR) is None


async def test_a_new_key_is_fetched_once_for_all_who_wait(issuer: Issuer, oauth: OAuth) -> None:
    assert await oauth.verify(issuer.token(aud=DOOR), DOOR)
    before = issuer.calls["/jwks"]
    issuer.rotate()
    tokens = [issuer.token(aud=DOOR, sub=f"u{n}") for n in range(50)]
    verified = await asyncio.gather(*(oauth.verify(token, DOOR) for token in tokens))
    assert all(verified)
    assert issuer.calls["/jwks"] == before + 1


async def test_invented_keys_do_not_flood_the_issuer(issuer: Issuer, oauth: OAuth) -> None:
    assert await oauth.verify(issuer.token(aud=DOOR), DOOR)
    before, began = issuer.calls["/jwks"], time.monotonic()
    tokens = [issuer.token({"kid": f"no{n}"}, aud=DOOR) for n in range(100)]
    verified = await asyncio.gather(*(oauth.verify(token, DOOR) for token in tokens))
    assert not any(verified)
    assert issuer.calls["/jwks"] - before <= 2 + (time.monotonic() - began)


async def test_known_keys_hold_while_the_issuer_is_away(issuer: Issuer, oauth: OAuth) -> None:
    assert await oauth.verify(issuer.token(aud=DOOR), DOOR)
    issuer.is_away = True
    assert await oauth.verify(issuer.token(aud=DOOR, sub="bob"), DOOR)


async def test_an_unknown_key_cannot_be_judged_while_the_issuer_is_away(
    issuer: Issuer, oauth: OAuth
) -> None:
    assert await oauth.verify(issuer.token(aud=DOOR), DOOR)
    issuer.is_away = True
    issuer.rotate()
    token = issuer.token(aud=DOOR)
    with pytest.raises(Unavailable, match="authorization server"):
        await oauth.verify(token, DOOR)
    issuer.is_away = False
    assert await oauth.verify(token, DOOR)


async def test_a_process_that_starts_before_its_issuer_recovers(issuer: Issuer) -> None:
    issuer.is_away = True
    oauth = resource_server(issuer)
    async with oauth.opened():
        with pytest.raises(Unavailable):
            await oauth.verify(issuer.token(aud=DOOR), DOOR)
        issuer.is_away = False
        assert await oauth.verify(issuer.token(aud=DOOR), DOOR)


async def test_a_key_set_may_be_named_instead_of_found(issuer: Issuer) -> None:
    oauth = resource_server(issuer, jwks_url=f"{issuer.url}/jwks")
    async with oauth.opened():
        assert await oauth.verify(issuer.token(aud=DOOR), DOOR)
    assert issuer.calls["/.well-known/oauth-authorization-server"] == 0


@pytest.fixture
async def asking(issuer: Issuer) -> AsyncGenerator[OAuth]:
    client_id, secret = INTROSPECTION_CLIENT
    where = Introspection(f"{issuer.url}/introspect", client_id, secret)
    oauth = resource_server(issuer, introspection=where)
    async with oauth.opened():
        yield oauth


@asynccontextmanager
async def introspecting(
    issuer: Issuer, clock: ManualClock, **bounds: int
) -> AsyncGenerator[Introspector]:
    client_id, secret = INTROSPECTION_CLIENT
    async with httpx.AsyncClient() as client:
        yield Introspector(
            client,
            f"{issuer.url}/introspect",
            issuer=issuer.url,
            client_id=client_id,
            secret=secret,
            clock=clock,
            **bounds,
        )


def active(issuer: Issuer, **changed: Any) -> dict[str, Any]:
    return {"active": True, **issuer.claims(aud=DOOR, **changed)}


async def test_an_opaque_token_is_asked_about_once_a_minute(issuer: Issuer, asking: OAuth) -> None:
    issuer.opaque["abc"] = active(issuer)
    verified = await asyncio.gather(*(asking.verify("abc", DOOR) for _ in range(20)))
    assert {found[0].subject for found in verified if found} == {"oauth:ada"}
    assert None not in verified
    assert issuer.calls["/introspect"] == 1


async def test_an_issuer_may_leave_out_its_name_and_the_date_of_issue(
    issuer: Issuer, asking: OAuth
) -> None:
    issuer.opaque["abc"] = active(issuer, iss=None, iat=None)
    assert await asking.verify("abc", DOOR)


@pytest.mark.parametrize(
    "changed",
    [
        {"active": False},
        {"active": "true"},
        {"aud": None},
        {"aud": "https://other.example/mcp"},
        {"exp": None},
        {"exp": 1},
        {"iss": "https://evil.example"},
        {"tenant": None},
    ],
    ids=str,
)
async def test_an_opaque_token_without_what_a_signed_one_needs_opens_nothing(
    issuer: Issuer, asking: OAuth, changed: dict[str, Any]
) -> None:
    stated = active(issuer) | changed
    issuer.opaque["abc"] = {name: value for name, value in stated.items() if value is not None}
    assert await asking.verify("abc", DOOR) is None


@pytest.mark.parametrize("token", ["", "unknown", "ä", "x" * 5000])
async def test_an_unknown_opaque_token_opens_nothing(asking: OAuth, token: str) -> None:
    assert await asking.verify(token, DOOR) is None


async def test_a_token_that_was_refused_is_not_asked_about_at_once_again(
    issuer: Issuer, asking: OAuth
) -> None:
    for _ in range(5):
        assert await asking.verify("unknown", DOOR) is None
    assert issuer.calls["/introspect"] == 1


async def test_a_token_that_was_refused_is_asked_about_again_seconds_later(issuer: Issuer) -> None:
    clock = ManualClock()
    async with introspecting(issuer, clock) as introspector:
        with pytest.raises(TokenRefused):
            await introspector.claims("abc")
        issuer.opaque["abc"] = active(issuer)
        with pytest.raises(TokenRefused):
            await introspector.claims("abc")
        clock.advance(5)
        assert (await introspector.claims("abc"))["sub"] == "ada"


async def test_the_memory_of_refused_tokens_is_bounded(issuer: Issuer) -> None:
    async with introspecting(issuer, ManualClock(), refused_tokens=2) as introspector:
        for token in ("a", "b", "c", "a"):
            with pytest.raises(TokenRefused):
                await introspector.claims(token)
    assert issuer.calls["/introspect"] == 4


async def _are_done(tasks: Sequence[asyncio.Task[Any]], count: int) -> bool:
    return sum(task.done() for task in tasks) >= count


async def test_a_flood_of_unknown_tokens_reaches_the_issuer_a_few_at_a_time(
    issuer: Issuer, asking: OAuth
) -> None:
    issuer.may_answer.clear()
    flood = [asyncio.create_task(asking.verify(f"guess{n}", DOOR)) for n in range(40)]
    await wait_until(lambda: _are_done(flood, 24))
    done, waiting = await asyncio.wait(flood, timeout=0.1)
    issuer.may_answer.set()
    assert {type(task.exception()) for task in done} == {Unavailable}
    assert (len(done), len(waiting)) == (24, 16)
    assert await asyncio.gather(*waiting) == [None] * 16
    issuer.opaque["abc"] = active(issuer)
    assert await asking.verify("abc", DOOR)


async def test_opaque_tokens_open_nothing_where_nobody_can_be_asked(oauth: OAuth) -> None:
    assert await oauth.verify("abc", DOOR) is None


async def test_an_opaque_token_cannot_be_judged_while_the_issuer_is_away(
    issuer: Issuer, asking: OAuth
) -> None:
    issuer.is_away = True
    with pytest.raises(Unavailable, match="authorization server"):
        await asking.verify("abc", DOOR)


async def test_a_wrong_client_secret_is_the_operator_s_fault_not_the_caller_s(
    issuer: Issuer,
) -> None:
    where = Introspection(f"{issuer.url}/introspect", "fleet", "wrong")
    oauth = resource_server(issuer, introspection=where)
    async with oauth.opened():
        with pytest.raises(Unavailable):
            await oauth.verify("abc", DOOR)


async def test_nothing_is_judged_before_the_service_is_open(issuer: Issuer) -> None:
    with pytest.raises(Unavailable):
        await resource_server(issuer).verify(issuer.token(aud=DOOR), DOOR)


async def test_clients_are_never_told_to_ask_for_the_right_to_approve(oauth: OAuth) -> None:
    door = oauth.door("/mcp", "gateway")
    assert "data:write" in door.asked_scopes
    assert not [scope for scope in door.scopes if scope.startswith("fleet:")]
