"""Stripe on a loopback port, as far as a restricted key for customers and invoices reaches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

KEY = "rk_test_readsCustomersAndInvoices"
_MOST = 100


@dataclass
class StripeServer:
    """One account.

    Attributes:
        may_read_account: rights of the key beyond customers and invoices.
        fault: status of every answer, while set.
    """

    may_read_account: bool = True
    fault: int | None = None
    records: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def app(self) -> Starlette:
        """Return the server's app."""
        listed = [Route(f"/v1/{what}", self._list) for what in ("customers", "invoices")]
        return Starlette(routes=[Route("/v1/account", self._account), *listed])

    def _refused(self, request: Request) -> Response | None:
        if self.fault is not None:
            return _error(self.fault, "api_error")
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return _error(401, "invalid_request_error")
        return None

    async def _account(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        if not self.may_read_account:
            return _error(403, "invalid_request_error")
        settings = {"dashboard": {"display_name": "Example Ltd"}}
        return JSONResponse({"id": "acct_1", "object": "account", "settings": settings})

    async def _list(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        what, asked = request.url.path.rpartition("/")[2], dict(request.query_params)
        limit, after = int(asked.pop("limit", 10)), asked.pop("starting_after", None)
        found = [r for r in self.records[what] if all(r.get(k) == v for k, v in asked.items())]
        ids = [record["id"] for record in found]
        if not 1 <= limit <= _MOST or (after is not None and after not in ids):
            return _error(400, "invalid_request_error")
        begin = ids.index(after) + 1 if after else 0
        page = found[begin : begin + limit]
        more = begin + limit < len(found)
        url = request.url.path
        return JSONResponse({"object": "list", "data": page, "has_more": more, "url": url})


def _error(status: int, kind: str) -> Response:
    return JSONResponse({"error": {"type": kind, "message": "No."}}, status)
