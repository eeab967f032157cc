from __future__ import annotations

from fleet_common.mcp.headers import header

SCOPE = {"type": "http", "headers": [(b"accept", b"a/b"), (b"x-id", b"1"), (b"x-id", b"2")]}


def test_the_first_value_counts_and_an_absent_header_is_empty() -> None:
    assert header(SCOPE, b"x-id") == "1"
    assert header(SCOPE, b"x-none") == ""


def test_bytes_outside_ascii_are_read_as_http_has_them() -> None:
    assert header({"headers": [(b"mcp-name", b"caf\xe9")]}, b"mcp-name") == "café"
