from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from fleet_common.redaction import MASK, is_secret_name, redact, redact_field, redact_text

ALNUM = string.ascii_letters + string.digits
UPPER = string.ascii_uppercase + string.digits
WORDS = ALNUM + "_-"


# What each kind of secret looks like in a text, and the letters it is made of.
FORMS = {
    "Bearer {}": WORDS,
    "Authorization: Basic {}": WORDS,
    "fleet_ab12cd34_{}": WORDS,
    "ghp_{}": ALNUM,
    "gho_{}": ALNUM,
    "ghs_{}": ALNUM,
    "github_pat_{}": ALNUM + "_",
    "glpat-{}": WORDS,
    "eyJhbGciOiJFUzI1NiJ9.eyJ{}.c2ln": WORDS,
    "AKIA{}": UPPER,
    "ASIA{}": UPPER,
    "AIza{}": WORDS,
    "ya29.{}": WORDS,
    "xoxb-{}": WORDS,
    "sk-{}": WORDS,
    "sk_live_{}": ALNUM,
    "hf_{}": ALNUM,
    "pat-na1-{}": WORDS,
    "postgres://app:{}@db.internal/crm": WORDS,
    "redis://:{}@127.0.0.1:8086/0": WORDS,
    "https://{}@github.com/a/b.git": WORDS,
    "password={}": WORDS,
    '{{"client_secret": "{}"}}': WORDS,
    "x-api-key: {}": WORDS,
    "/callback?code=1&access_token={}&state=2": WORDS,
    "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----": WORDS,
    "-----BEGIN PRIVATE KEY-----\n{}": WORDS,
}
around = st.text(st.characters(codec="utf-8", exclude_characters="'\"\x00"), max_size=20)
leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
quickly = settings(deadline=None, max_examples=20)


def needles(form: str) -> st.SearchStrategy[str]:
    # The head makes it unlike anything that is put around it.
    return st.text(FORMS[form], min_size=34, max_size=50).map(lambda text: "Q7X" + text)


@pytest.mark.parametrize("form", FORMS)
@quickly
@given(data=st.data(), before=around, after=around)
def test_a_secret_is_removed_from_any_text(
    form: str, data: st.DataObject, before: str, after: str
) -> None:
    needle = data.draw(needles(form))
    assert needle not in redact_text(f"{before} {form.format(needle)} {after}")


@pytest.mark.parametrize("form", FORMS)
@quickly
@given(
    data=st.data(),
    siblings=st.lists(leaf, max_size=3),
    shape=st.lists(st.sampled_from(["list", "tuple", "set", "dict", "key", "bytes"]), max_size=6),
)
def test_a_secret_is_removed_at_any_depth(
    form: str, data: st.DataObject, siblings: list[Any], shape: list[str]
) -> None:
    needle = data.draw(needles(form))
    value: Any = form.format(needle)
    for step in shape:
        value = _wrap(step, value, siblings)
    assert needle not in repr(redact(value))


def _wrap(step: str, value: Any, siblings: list[Any]) -> Any:
    if step == "bytes":
        return value.encode() if isinstance(value, str) else value
    if step == "set":
        return {value} if isinstance(value, str | bytes) else [value]
    if step == "key":
        return {value: 1} if isinstance(value, str | bytes) else {"a": value}
    if step == "dict":
        return {"fact": value, **{str(i): sibling for i, sibling in enumerate(siblings)}}
    return [*siblings, value] if step == "list" else (*siblings, value)


@settings(deadline=None)
@given(st.text(string.ascii_lowercase + " .,/()%", max_size=200))
def test_text_without_a_marker_is_untouched(text: str) -> None:
    plain = text.replace("token", "").replace("key", "").replace("pass", "").replace("basic", "")
    if not any(word in plain for word in ("secret", "cookie", "bearer", "pwd", "sk-", "://")):
        assert redact_text(plain) == plain


@pytest.mark.parametrize(
    "name",
    [
        *(
            "authorization",
            "Authorization",
            "token",
            "access_token",
            "accessToken",
            "key",
            "api_key",
        ),
        *("X-API-Key", "apikey", "password", "db_password_hash", "client_secret", "secretName"),
        *("Set-Cookie", "dsn", "POSTGRES_DSN", "private_key_pem", "credentials", "jwt", "keys"),
    ],
)
def test_a_secret_name_hides_its_value(name: str) -> None:
    assert is_secret_name(name)
    assert redact_field(name, "harmless") == MASK
    assert redact_field(name, {"nested": ["x"]}) == MASK


@pytest.mark.parametrize("name", ["key_id", "token_count", "tool", "keyboard", "rows", "", "__"])
def test_an_ordinary_name_shows_its_value(name: str) -> None:
    assert not is_secret_name(name)
    assert redact_field(name, "harmless") == "harmless"


def test_a_count_of_tokens_is_not_a_secret() -> None:
    assert redact_field("max_tokens", 512) == 512
    assert redact_field("max_tokens", ["a"]) == MASK
    assert redact_field("token", 123456) == MASK


def test_no_secret_and_a_yes_or_no_about_one_are_shown() -> None:
    assert redact_field("password", None) is None
    assert redact_field("password", True) is True


def test_header_pairs_are_redacted_by_their_name() -> None:
    headers = [(b"authorization", b"Digest abc"), (b"accept", b"*/*")]
    assert redact(headers) == [["authorization", MASK], ["accept", "*/*"]]


def test_the_id_of_a_fleet_key_stays_readable() -> None:
    assert redact_text("key fleet_ab12cd34_0123456789abcdefghij") == f"key fleet_ab12cd34_{MASK}"


def test_the_host_of_a_url_stays_readable() -> None:
    assert redact_text("postgres://app:pw@db:5432/crm") == f"postgres://{MASK}@db:5432/crm"


def test_objects_are_shown_by_their_redacted_repr() -> None:
    class Client:
        def __repr__(self) -> str:
            return "Client(password='hunter2')"

    assert redact(Client()) == f"Client(password={MASK})"
    assert "hunter2" not in redact(SecretStr("hunter2"))


def test_a_cycle_ends() -> None:
    loop: dict[str, Any] = {"name": "loop"}
    loop["self"] = loop
    assert MASK in repr(redact(loop))


def test_numbers_that_are_not_json_become_text() -> None:
    assert redact([1, 1.5, float("nan"), float("inf"), None, True]) == [
        1,
        1.5,
        "nan",
        "inf",
        None,
        True,
    ]
