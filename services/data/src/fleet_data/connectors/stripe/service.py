"""What is asked of Stripe: pages of customers and of invoices, newest first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleet_common.errors import InvalidInput
from fleet_data.claims import Caller
from fleet_data.connectors.answers import told
from fleet_data.connectors.credentials import Credentials

CUSTOMERS = ("id", "name", "email", "created", "currency", "balance", "delinquent")
INVOICES = ("id", "number", "customer", "customer_email", "status", "created", "due_date", "currency", "total",
            "amount_due")  # fmt: skip
_PAGE = 100  # Stripe gives no more at once
_MOMENTS = {"created", "due_date"}
_CURSOR = re.compile(r"data\.stripe\.([a-z]+_\w{1,100})")


@dataclass(frozen=True, slots=True)
class Rows:
    """One page.

    Attributes:
        values: in the order of the columns.
        next_cursor: None at the end.
    """

    values: Sequence[Sequence[Any]]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Stripe:
    """The Stripe accounts of all tenants."""

    credentials: Credentials

    async def customers(
        self, caller: Caller, *, email: str | None, limit: int, cursor: str | None
    ) -> Rows:
        """Return customers, by exact address when there is one.

        Raises:
            NotConnected: the tenant connected no account.
        """
        return await self._list(caller, "customers", CUSTOMERS, {"email": email}, limit, cursor)

    async def invoices(
        self,
        caller: Caller,
        *,
        customer: str | None,
        status: str | None,
        limit: int,
        cursor: str | None,
    ) -> Rows:
        """Return invoices, of one customer or in one status when asked for.

        Raises:
            NotConnected: the tenant connected no account.
        """
        asked = {"customer": customer, "status": status}
        return await self._list(caller, "invoices", INVOICES, asked, limit, cursor)

    async def _list(  # noqa: PLR0917 - the two above name them
        self,
        caller: Caller,
        what: str,
        columns: Sequence[str],
        asked: Mapping[str, str | None],
        limit: int,
        cursor: str | None,
    ) -> Rows:
        params = {"limit": str(min(limit, _PAGE)), **{k: v for k, v in asked.items() if v}}
        if cursor is not None:
            params["starting_after"] = _position(cursor)
        async with self.credentials.session("stripe", caller) as http:
            page = told(await http.get(f"/v1/{what}", params=params), "stripe")
        found = page["data"]
        following = f"data.stripe.{found[-1]['id']}" if found and page.get("has_more") else None
        return Rows([[_value(each, name) for name in columns] for each in found], following)


def _position(cursor: str) -> str:
    known = _CURSOR.fullmatch(cursor)
    if known is None:
        raise InvalidInput("cursor is not one of this tool's", hint="Leave it out to begin anew")
    return known[1]


def _value(record: Mapping[str, Any], name: str) -> Any:
    value = record.get(name)
    if name in _MOMENTS and isinstance(value, int):
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return value
