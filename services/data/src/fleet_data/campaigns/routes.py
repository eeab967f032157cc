"""`/unsubscribe/{token}`: a page for people, and the one click of their mail clients (RFC 8058).

GET changes nothing, since scanners open every link of a mail. POST acts, without a question, a cookie or a sign-in.
Both answer alike whether the address was known, unknown or suppressed before: the token says nothing to others.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from fleet_common.errors import NotFound
from fleet_common.mcp import HttpRoute
from fleet_data.deps import Deps

_STYLE = (files(__package__) / "page.css").read_text("utf-8")
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    # same-origin: with no-referrer a browser sends `Origin: null`, which the Origin check refuses.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex",
    "cache-control": "no-store",
}
_ASK = '<form method="post"><button>Unsubscribe</button></form>'


async def unsubscribe(request: Request, deps: Deps) -> Response:
    """Answer a link of a mail: GET asks, POST ends such mail for good."""
    token = request.path_params["token"]
    try:
        deps.campaigns.check_token(token)
    except NotFound:
        return _page("This link is not valid", "It may have been cut off by a mail client.", 404)
    if request.method != "POST":
        return _page("No more mail?", f"<p>One click, and we do not write to you again.</p>{_ASK}")
    await deps.campaigns.unsubscribe(token)
    return _page("You are unsubscribed", "<p>We do not write to this address any more.</p>")


ROUTES = (
    HttpRoute(
        path="/unsubscribe/{token}", handle=unsubscribe, methods=("GET", "POST"), is_secret=True
    ),
)


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(
        f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>
<main><h1>{title}</h1>{body}</main></html>""",
        status,
        _HEADERS,
    )
