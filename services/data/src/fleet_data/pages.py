"""Pages for people who have no account here: one card, no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from starlette.responses import HTMLResponse

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


def page(title: str, body: str, status: int = 200) -> HTMLResponse:
    """Return a page; whatever is not ours in `title` and `body` is escaped already."""
    return HTMLResponse(
        f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{title}</title><style>{_STYLE}</style>
<main><h1>{title}</h1>{body}</main></html>""",
        status,
        _HEADERS,
    )
