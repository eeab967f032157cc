"""Stripe as a model sees it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import Field

from fleet_common.errors import PermissionDenied
from fleet_common.mcp import TABLE_SCHEMA, CurrentDeps, CurrentGrant, fence, table, touches
from fleet_common.mcp.params import Cursor, Limit
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.connectors.stripe.service import CUSTOMERS, INVOICES, Stripe
from fleet_data.deps import Deps, get_caller

_READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)
_WRITTEN_BY_OTHERS = {"name", "email", "customer_email"}
_MASK = "***"


def get_stripe(deps: Deps = CurrentDeps()) -> Stripe:
    """Return Stripe."""
    return Stripe(deps.credentials)


@tool(
    title="Customers at Stripe",
    meta=touches("untrusted", "private"),
    annotations=_READS,
    output_schema=TABLE_SCHEMA,
    tags={"connector"},
)
async def connector_stripe_customers(  # noqa: PLR0917 - parameters of a tool are named
    email: Annotated[str | None, Field(max_length=320, description="Exactly this address.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    stripe: Stripe = Depends(get_stripe),
) -> ToolResult:
    """List customers of the connected Stripe account, newest first, 100 at most. Amounts are in cents and the like."""
    _check_masks(caller, email)
    page = await stripe.customers(caller, email=email, limit=grant.rows(limit), cursor=cursor)
    return _shown(CUSTOMERS, page.values, page.next_cursor, caller)


@tool(
    title="Invoices at Stripe",
    meta=touches("untrusted", "private"),
    annotations=_READS,
    output_schema=TABLE_SCHEMA,
    tags={"connector"},
)
async def connector_stripe_invoices(  # noqa: PLR0917 - parameters of a tool are named
    customer: Annotated[
        str | None, Field(pattern=r"^cus_\w{1,100}$", description="Id of a customer at Stripe.")
    ] = None,
    status: Annotated[
        Literal["draft", "open", "paid", "uncollectible", "void"] | None,
        Field(description="Only these."),
    ] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    stripe: Stripe = Depends(get_stripe),
) -> ToolResult:
    """List invoices of the connected Stripe account, newest first, 100 at most. Amounts are in cents and the like."""
    page = await stripe.invoices(
        caller, customer=customer, status=status, limit=grant.rows(limit), cursor=cursor
    )
    return _shown(INVOICES, page.values, page.next_cursor, caller)


TOOLS = (connector_stripe_customers, connector_stripe_invoices)


def _shown(
    columns: tuple[str, ...], rows: Any, next_cursor: str | None, caller: Caller
) -> ToolResult:
    """Return a page as the caller may see it, what others wrote fenced."""
    hidden = _hidden_from(caller)

    def cell(name: str, value: Any) -> Any:
        if name in hidden and value is not None:
            return _MASK
        return fence(value) if name in _WRITTEN_BY_OTHERS and value else value

    shown = [[cell(name, value) for name, value in zip(columns, row, strict=True)] for row in rows]
    return table(columns, shown, truncated=next_cursor is not None, next_cursor=next_cursor)


def _hidden_from(caller: Caller) -> set[str]:
    masked = {"email", "contact.email"} & caller.masks
    return {"email", "customer_email"} if masked else set()


def _check_masks(caller: Caller, email: str | None) -> None:
    if email is not None and _hidden_from(caller):
        raise PermissionDenied("addresses are hidden from you, so none can be looked for")
