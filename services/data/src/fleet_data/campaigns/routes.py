"""`/unsubscribe/{token}`: a page for people, and the one click of their mail clients (RFC 8058).

GET changes nothing, since scanners open every link of a mail. POST acts, without a question, a cookie or a sign-in.
Both answer alike whether the address was known, unknown or suppressed before: the token says nothing to others.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from fleet_common.errors import NotFound
from fleet_common.mcp import HttpRoute
from fleet_data.deps import Deps
from fleet_data.pages import page

_ASK = '<form method="post"><button>Unsubscribe</button></form>'


async def unsubscribe(request: Request, deps: Deps) -> Response:
    """Answer a link of a mail: GET asks, POST ends such mail for good."""
    token = request.path_params["token"]
    try:
        deps.campaigns.check_token(token)
    except NotFound:
        return page("This link is not valid", "It may have been cut off by a mail client.", 404)
    if request.method != "POST":
        return page("No more mail?", f"<p>One click, and we do not write to you again.</p>{_ASK}")
    await deps.campaigns.unsubscribe(token)
    return page("You are unsubscribed", "<p>We do not write to this address any more.</p>")


ROUTES = (
    HttpRoute(
        path="/unsubscribe/{token}", handle=unsubscribe, methods=("GET", "POST"), is_secret=True
    ),
)
