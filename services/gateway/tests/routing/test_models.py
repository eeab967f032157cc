from __future__ import annotations

import pytest
from mcp.shared.inbound import encode_header_value

from fleet_common.mcp.envelope import Envelope
from fleet_gateway.routing.models import of_headers

VERSION = (b"mcp-protocol-version", b"2026-07-28")
METHOD = (b"mcp-method", b"tools/call")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (b"crm_get", "crm_get"),
        (b"=?base64?Y3JtX2dldA==?=", "crm_get"),
        (encode_header_value("häh").encode(), "häh"),
        (encode_header_value(" crm_get").encode(), " crm_get"),
        (b"=?base64?Y3JtX2dldB==?=", ""),  # not canonical: no service takes it either
        (b"=?base64?%%?=", ""),
    ],
)
def test_a_name_is_read_as_services_read_it(written: bytes, name: str) -> None:
    found = of_headers({"headers": [VERSION, METHOD, (b"mcp-name", written)]})
    assert found == Envelope("tools/call", name)


@pytest.mark.parametrize(
    "extra",
    [(b"mcp-protocol-version", b"2025-11-25"), (b"mcp-method", b"ping"), (b"mcp-name", b"other")],
)
@pytest.mark.parametrize("comes_first", [True, False])
def test_headers_that_come_twice_are_not_believed(
    extra: tuple[bytes, bytes], comes_first: bool
) -> None:
    usual = [VERSION, METHOD, (b"mcp-name", b"crm_get")]
    headers = [extra, *usual] if comes_first else [*usual, extra]
    assert of_headers({"headers": headers}) is None


def test_another_header_that_comes_twice_takes_nothing_away() -> None:
    usual = [VERSION, METHOD, (b"mcp-name", b"crm_get")]
    headers = [*usual, (b"accept", b"application/json"), (b"accept", b"text/event-stream")]
    assert of_headers({"headers": headers}) == Envelope("tools/call", "crm_get")
