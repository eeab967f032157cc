"""Redaction: replaces secrets in anything that is about to be written down.

Two rules, applied to nested mappings and sequences. A value under a name that says "secret" is
hidden whole. Every string is searched for text that is a secret by its form: a bearer token, a
fleet or cloud key, a JWT, a password in a URL, a private key. It errs on the side of hiding: a lost
word in a log line is cheaper than a leaked key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

MASK = "***"
_MAX_DEPTH = 8

# Hidden wherever the word stands in the name: `db_password_hash`, `secretName`, `Set-Cookie`.
_SECRET_WORDS = frozenset(
    {"authorization", "password", "passwd", "pwd", "passphrase", "secret", "secrets", "cookie"}
    | {"cookies", "dsn", "credential", "credentials", "apikey", "jwt", "bearer", "pem"}
)
# Hidden only as the last word: `api_key` and `accessToken` are, `key_id` and `token_count` are not.
_SECRET_ENDINGS = frozenset({"key", "keys", "token", "tokens"})
# Under a plural a number is a count: `tokens=512` is a fact about a prompt.
_COUNTABLE = frozenset({"keys", "tokens"})
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])")

_NAMES = (
    r"authorization|password|passwd|pwd|passphrase|secret|token|api[_-]?key|access[_-]?key"
    r"|cookie|signature"
)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A block cut short by a line limit still holds key material: then everything to the end goes.
    (re.compile(r"(?s)-----BEGIN [A-Z0-9 ]*KEY-----.*?(?:-----END [A-Z0-9 ]*KEY-----|\Z)"), MASK),
    (re.compile(r"(\w://)[^\s/@'\"]*:[^\s/'\"]*@"), rf"\1{MASK}@"),
    (re.compile(r"(\w://)[^\s/@:'\"?#]+@"), rf"\1{MASK}@"),
    (re.compile(r"(?i)((?:bearer|basic)\s+)[\w.~+/=-]{6,}"), rf"\1{MASK}"),
    # The id of a fleet key is public and helps to find the key; the rest is the secret.
    (re.compile(r"(fleet_[a-z0-9]{8}_)[\w-]{12,}"), rf"\1{MASK}"),
    (re.compile(r"github_pat_\w{10,}|gh[opsur]_\w{16,}|glpat-[\w-]{10,}"), MASK),
    (re.compile(r"eyJ[\w-]{5,}\.[\w-]{2,}(?:\.[\w-]*)+"), MASK),
    (re.compile(r"A[KS]IA[0-9A-Z]{12,}|AIza[\w-]{20,}|ya29\.[\w.-]{10,}"), MASK),
    (re.compile(r"xox[abeprs]-[\w-]{8,}|\b(?:sk|pk)[-_][\w-]{16,}|hf_\w{20,}"), MASK),
    (re.compile(r"pat-(?:na|eu)\d-[\w-]{16,}"), MASK),
    (
        re.compile(
            rf"(?i)((?:{_NAMES})['\"]?\s*[:=]\s*(?:bearer\s+|basic\s+)?)"
            r"(?:b?'[^']*'|b?\"[^\"]*\"|[^\s,;&'\")}\]]+)"
        ),
        rf"\1{MASK}",
    ),
)
# What ordinary strings are told by: ids and short names cannot hold any of the forms above, and a
# text without one of these markers does not either. This keeps a log line at 1-2 us of redaction.
_ORDINARY = re.compile(r"[0-9a-z_]{0,18}|[0-9a-f-]{0,36}")
_MARKERS = (
    *("://", "bearer", "basic", "key", "pass", "pwd", "secret", "token", "cookie", "signature"),
    *("authorization", "fleet_", "github_pat_", "gho_", "ghp_", "ghs_", "ghu_", "ghr_", "glpat-"),
    *("eyj", "akia", "asia", "aiza", "ya29.", "xox", "sk-", "sk_", "pk-", "pk_", "hf_", "pat-"),
)


@lru_cache(maxsize=2048)
def is_secret_name(name: str) -> bool:
    """Return whether a value under this name is a secret whatever it looks like."""
    words = [word.lower() for word in _WORD.findall(name)]
    return bool(words) and (words[-1] in _SECRET_ENDINGS or not _SECRET_WORDS.isdisjoint(words))


def redact_text(text: str) -> str:
    """Return the text with every recognised secret replaced by `***`."""
    if _ORDINARY.fullmatch(text):
        return text
    lowered = text.lower()
    for marker in _MARKERS:
        if marker in lowered:
            break
    else:
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_field(name: str, value: Any, *, _depth: int = 0) -> Any:
    """Return the value as it may be written under this name: plain JSON types without secrets."""
    if value is None or not is_secret_name(name):
        return redact(value, _depth=_depth)
    if isinstance(value, bool) or (_is_countable(name) and isinstance(value, int | float)):
        return value
    return MASK


def redact(value: Any, *, _depth: int = 0) -> Any:
    """Return plain JSON types without secrets; objects become their redacted `repr`.

    Mappings and sequences are followed eight levels deep, which also ends cycles; what lies deeper
    becomes `***`.
    """
    if isinstance(value, str):
        return redact_text(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        # NaN and the infinities are not JSON.
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _redact_nested(value, _depth + 1) if _depth < _MAX_DEPTH else MASK
    return redact_text(_text(value))


def _redact_nested(value: Collection[Any], depth: int) -> Any:
    if isinstance(value, Mapping):
        return {
            redact_text(_text(name)): redact_field(_text(name), item, _depth=depth)
            for name, item in value.items()
        }
    # ASGI and aiohttp carry headers as pairs, so the name of a secret is its left neighbour.
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | bytes):
        name = _text(value[0])
        return [redact_text(name), redact_field(name, value[1], _depth=depth)]
    return [redact(item, _depth=depth) for item in value]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else repr(value)


def _is_countable(name: str) -> bool:
    return _WORD.findall(name)[-1].lower() in _COUNTABLE
