from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from fleet_common.redaction import MASK, is_secret_name, redact, redact_field, redact_text

WORDS = string.ascii_letters + string.digits + "_-"


def body(length: int, alphabet: str = WORDS) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=length, max_size=length + 20)


@st.composite
def secret_texts(draw: st.DrawFn) -> tuple[str, str]:
    """Return a text that holds a secret, and the part of it that must never be seen again."""
    alnum = string.ascii_letters + string.digits
    form, strategy = draw(
        st.sampled_from(
            [
                ("Bearer {}", body(20)),
                ("Authorization: Basic {}", body(20)),
                ("fleet_ab12cd34_{}", body(32)),
                ("ghp_{}", body(36, alnum)),
                ("gho_{}", body(36, alnum)),
                ("github_pat_{}", body(40, alnum + "_")),
                ("glpat-{}", body(20)),
                ("eyJhbGciOiJFUzI1NiJ9.eyJ{}.c2ln", body(20)),
                ("AKIA{}", body(16, string.ascii_uppercase + string.digits)),
                ("AIza{}", body(35)),
                ("ya29.{}", body(30)),
                ("xoxb-{}", body(20)),
                ("sk-{}", body(30)),
                ("hf_{}", body(34, alnum)),
                ("pat-na1-{}", body(30)),
                ("postgres://app:{}@db.internal/crm", body(12)),
                ("redis://:{}@127.0.0.1:8086/0", body(12)),
                ("https://{}@github.com/a/b.git", body(20)),
                ("password={}", body(8)),
                ('{{"client_secret": "{}"}}', body(12)),
                ("x-api-key: {}", body(12)),
                ("/callback?code=1&access_token={}&state=2", body(12)),
                ("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----", body(40)),
                ("-----BEGIN PRIVATE KEY-----\n{}", body(40)),
            ]
        )
    )
    # Padded so that the needle is unlike anything Hypothesis puts around it.
    needle = "Q7" + draw(strategy)
    if form.startswith("AKIA"):
        needle = needle.upper()
    return form.format(needle), needle


around = st.text(st.characters(codec="utf-8", exclude_characters="'\"\x00"), max_size=20)
leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


@given(secret=secret_texts(), before=around, after=around)
def test_a_secret_is_removed_from_any_text(
    secret: tuple[str, str], before: str, after: str
) -> None:
    text, needle = secret
    assert needle not in redact_text(f"{before} {text} {after}")


@given(
    secret=secret_texts(),
    siblings=st.lists(leaf, max_size=3),
    shape=st.lists(st.sampled_from(["list", "tuple", "set", "dict", "key", "bytes"]), max_size=6),
)
def test_a_secret_is_removed_at_any_depth(
    secret: tuple[str, str], siblings: list[Any], shape: list[str]
) -> None:
    text, needle = secret
    value: Any = text
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
