"""Stripe through the whole service: a key connected on the page, customers and invoices read, nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from fastmcp.exceptions import ToolError

from fleet_common.errors import PermissionDenied
from fleet_common.testing import serving
from fleet_common.testing.wire import text
from fleet_data.claims import Caller
from fleet_data.connectors.stripe import tools
from fleet_data.connectors.stripe.service import CUSTOMERS
from fleet_data.settings import Settings
from fleet_data.testing.stripe import KEY, StripeServer

CUSTOMER = {"object": "customer", "created": 1700000000, "currency": "eur", "balance": 0}
INVOICE = {"object": "invoice", "created": 1700000000, "due_date": None, "currency": "eur", "total": 1190,
           "amount_due": 1190, "customer": "cus_1", "number": "A-1", "customer_email": "c1@example.org"}  # fmt: skip
RECORDS = {
    "customers": [
        {**CUSTOMER, "id": f"cus_{n}", "name": f"Customer {n}", "email": f"c{n}@example.org"}
        for n in range(1, 4)
    ],
    "invoices": [
        {**INVOICE, "id": f"in_{n}", "status": "open" if n % 2 else "paid"} for n in range(1, 4)
    ],
}


@pytest.fixture
def stripe() -> StripeServer:
    """The account."""
    return StripeServer(records=RECORDS)


@pytest.fixture
async def settings(settings: Settings, stripe: StripeServer) -> AsyncGenerator[Settings]:
    async with serving(stripe.app()) as url:
        told = {"connector_urls": f"stripe={url}"}
        yield Settings.model_validate({**settings.model_dump(), **told})


def rows(result: Any) -> list[list[Any]]:
    told: list[list[Any]] = json.loads(text(result))["rows"]
    return told


async def test_customers_and_invoices_are_read_page_by_page(
    connect: Callable[..., Any], connected: Any, stripe: StripeServer
) -> None:
    await connected("stripe", token=KEY)
    async with connect() as client:
        first = await client.call_tool("connector_stripe_customers", {"limit": 2})
        assert [row[0] for row in rows(first)] == ["cus_1", "cus_2"]
        assert rows(first)[0][1:4] == [
            "<untrusted>Customer 1</untrusted>", "<untrusted>c1@example.org</untrusted>",
            "2023-11-14T22:13:20Z"]  # fmt: skip
        cursor = first.structured_content["next_cursor"]
        rest = await client.call_tool("connector_stripe_customers", {"cursor": cursor})
        assert [row[0] for row in rows(rest)] == ["cus_3"]
        assert rest.structured_content["next_cursor"] is None
        one = await client.call_tool("connector_stripe_customers", {"email": "c2@example.org"})
        assert [row[0] for row in rows(one)] == ["cus_2"]

        open_ = {"status": "open", "customer": "cus_1"}
        invoices = await client.call_tool("connector_stripe_invoices", open_)
        assert [row[0] for row in rows(invoices)] == ["in_1", "in_3"]
        assert rows(invoices)[0][6] is None
        assert (await client.call_tool("connector_stripe_invoices", {"customer": "cus_9"})).structured_content[
            "row_count"] == 0  # fmt: skip

        for wrong in ("data.x", "data.stripe.cus_1&limit=9", "data.stripe./v1/charges"):
            with pytest.raises(ToolError, match="cursor is not"):
                await client.call_tool("connector_stripe_customers", {"cursor": wrong})
        for status, code in ((403, "permission_denied"), (500, "unavailable")):
            stripe.fault = status
            with pytest.raises(ToolError, match=code):
                await client.call_tool("connector_stripe_invoices", {"limit": 1})
        stripe.fault = None

    await connected("stripe", token="rk_test_revoked")
    async with connect() as client:
        with pytest.raises(ToolError, match=r"consent_withdrawn: .*fleet connect-account stripe"):
            await client.call_tool("connector_stripe_customers", {})


async def test_only_a_restricted_key_is_taken_and_it_is_asked_whose_it_is(
    site: Any, stripe: StripeServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.client() as client:
        started = (
            await client.call_tool("connector_connect", {"provider": "stripe"})
        ).structured_content
        assert started["how"] == "key"
        page = await site.browser.get(started["url"])
        assert '<input type="password" name="key"' in page.text
        json_ = {"Accept": "application/json"}

        async def send(key: str) -> Any:
            begun = await client.call_tool("connector_connect", {"provider": "stripe"})
            url = begun.structured_content["url"]
            return await site.browser.post(url, data={"key": key}, headers=json_)

        powerful = await send("sk_live_mayDoEverything")
        assert (powerful.status_code, powerful.json()["code"]) == (400, "invalid_input")
        assert "restricted key" in powerful.json()["hint"]
        assert "sk_live" not in powerful.text
        assert (await send("rk_test_notOfStripe")).status_code == 400
        stripe.may_read_account = False
        assert (await send(KEY)).json() == {"provider": "stripe", "account": "a Stripe account"}
        stripe.may_read_account = True
        assert (await send(KEY)).json()["account"] == "Example Ltd"
        listed = await client.call_tool("connector_status", {})
        assert "Example Ltd" in text(listed)
        for shown in (text(listed), caplog.text):
            assert KEY not in shown
            assert "sk_live" not in shown


async def test_stripes_own_client_works_with_the_emulator(stripe: StripeServer) -> None:
    from stripe import AuthenticationError, StripeClient

    async with serving(stripe.app()) as url:

        def read() -> tuple[list[str], str]:
            client = StripeClient(KEY, base_addresses={"api": url}, max_network_retries=0)
            ids = [each.id for each in client.v1.customers.list({"limit": 2}).auto_paging_iter()]
            with pytest.raises(AuthenticationError):
                StripeClient("rk_test_x", base_addresses={"api": url}).v1.invoices.list()
            return ids, client.v1.invoices.list({"status": "paid"}).data[0].id

        assert await asyncio.to_thread(read) == (["cus_1", "cus_2", "cus_3"], "in_2")


def test_who_may_not_see_addresses_sees_none_and_looks_for_none() -> None:
    caller = Caller("demo", "key:x", frozenset({"contact.email"}))
    row = [RECORDS["customers"][0].get(name) for name in CUSTOMERS]
    shown = rows(tools._shown(CUSTOMERS, [row], None, caller))
    assert shown[0][:3] == ["cus_1", "<untrusted>Customer 1</untrusted>", "***"]
    with pytest.raises(PermissionDenied):
        tools._check_masks(caller, "c1@example.org")
