"""`/oauth/{provider}/callback`: where a person's browser comes back with a provider's answer, or pastes a key.

GET changes nothing, since browsers and scanners open links by themselves: it says whose fleet asks for which account.
POST, the button of that page, connects it. Both need the sealed state of a connection that a caller began.
"""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fleet_common.errors import FleetError, InvalidInput
from fleet_common.mcp import HttpRoute
from fleet_common.mcp.body import read_body
from fleet_data.connectors.connecting import Connections, Pending
from fleet_data.connectors.models import Account
from fleet_data.deps import Deps
from fleet_data.pages import page


async def callback(request: Request, deps: Deps) -> Response:
    """Answer a browser, or `fleet connect-account` with a key."""
    name = request.path_params["provider"]
    wants_json = "application/json" in request.headers.get("accept", "")
    try:
        if request.method != "POST":
            return await _asked(deps.connections, name, request)
        account = await _finished(deps.connections, name, request)
    except FleetError as exc:
        if wants_json:
            return JSONResponse(exc.to_dict(), exc.http_status)
        return page(
            "Not connected", _paragraph(f"{exc.message}. {exc.hint or ''}"), exc.http_status
        )
    if wants_json:
        return JSONResponse({"provider": name, "account": account.label})
    shown = f"{escape(account.label)} is connected. You can close this page."
    return page("Connected", f"<p>{shown}</p>")


ROUTES = (HttpRoute(path="/oauth/{provider}/callback", handle=callback, methods=("GET", "POST")),)


async def _asked(connections: Connections, name: str, request: Request) -> Response:
    state = request.query_params.get("state", "")
    pending = await connections.look(name, state)
    if pending.provider.key is None and "code" not in request.query_params:
        return page(
            "Not connected", _paragraph(f"{pending.provider.title} says: you did not agree.")
        )
    return page(f"Connect {pending.provider.title}?", _question(pending, request))


async def _finished(connections: Connections, name: str, request: Request) -> Account:
    form = parse_qs((await read_body(request.receive)).decode("ascii", "replace"))
    # A link that a program got has the state in its query; the page has it in its form.
    state = form.get("state", [request.query_params.get("state", "")])[0]
    answer = form.get("code") or form.get("key")
    if not answer:
        raise InvalidInput("the provider's answer is missing", hint="Begin again")
    return await connections.finish(name, state, answer[0].strip())


def _question(pending: Pending, request: Request) -> str:
    """Return what a person agrees to, with the name of whoever asked."""
    begun, title = pending.begun, escape(pending.provider.title)
    whom = f"everybody in the tenant {escape(pending.tenant)}"
    whom = f"{escape(begun.owner)} alone" if begun.owner else whom
    told = (
        f"<p><b>{escape(begun.started_by)}</b> of the tenant <b>{escape(pending.tenant)}</b> wants a {title} account "
        f"to serve {whom}. Go on only if you know who that is.</p>"
    )
    state = _hidden("state", request.query_params["state"])
    if pending.provider.key is None:
        given = _hidden("code", request.query_params["code"])
    else:
        given = (
            f"<p>{escape(pending.provider.key.hint)}</p>"
            '<input type="password" name="key" aria-label="Key" autocomplete="off" required autofocus>'
        )
    # The form leads to the address without its query, which would leave with the next link.
    return f'{told}<form method="post" action="?">{state}{given}<button>Connect</button></form>'


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{name}" value="{escape(value, quote=True)}">'


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"
