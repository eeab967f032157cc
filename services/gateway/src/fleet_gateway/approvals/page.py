"""The page: plain HTML from the server, no script, nothing loaded, every value escaped."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files

from starlette.responses import HTMLResponse

from fleet_common.approvals import Request, Verdict

_STYLE = (files(__package__) / "page.css").read_text("utf-8")
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "content-security-policy": "; ".join(
        (
            "default-src 'none'",
            f"style-src 'sha256-{_HASH}'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    # same-origin: with no-referrer a browser sends `Origin: null`, which the Origin check refuses.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def sign_in_page(note: str = "", *, status: int = 200) -> HTMLResponse:
    """Return the page that asks who is there; it tells nothing about the request."""
    remark = f'<p class="note" role="alert">{escape(note)}</p>' if note else ""
    return _page(
        "Approve a call",
        f"""{remark}<p>Somebody's agent asks to do something that a person must approve.
Say who you are to see what it is.</p>
<form method="post">
<label for="key">Your fleet key or access token, with a role that may approve</label>
<input id="key" name="key" type="password" autocomplete="off" spellcheck="false" required autofocus>
<button>Show me</button>
</form>""",
        status=status,
    )


def request_page(request: Request, ticket: str, *, subject: str) -> HTMLResponse:
    """Return the page that shows a request and asks for a decision."""
    what, *details = request.lines
    rows = "".join(f"<li>{escape(line)}</li>" for line in details)
    second = (
        "<p>Somebody other than the one who asks must decide.</p>" if request.second_person else ""
    )
    minutes = max(1, round(request.remaining_s / 60))
    return _page(
        "Approve this call?",
        f"""<h2>{escape(what)}</h2>
<ul>{rows}</ul>
<dl><dt>Asked for by</dt><dd>{escape(request.subject)}</dd>
<dt>Tool</dt><dd>{escape(request.tool)}</dd>
<dt>Tenant</dt><dd>{escape(request.tenant)}</dd>
<dt>Expires</dt><dd>in about {minutes} min</dd>
<dt>You are</dt><dd>{escape(subject)}</dd></dl>{second}
<form method="post">
<input type="hidden" name="ticket" value="{escape(ticket)}">
<button name="verdict" value="denied">Deny</button>
<button name="verdict" value="approved" class="yes">Approve once</button>
</form>""",
    )


def decided_page(verdict: Verdict) -> HTMLResponse:
    """Return the page that says what was decided."""
    said = {
        "approved": "Approved. The same call now works once, until the five minutes are over.",
        "denied": "Denied. The caller is told so.",
    }
    return _page("Done", f"<p>{said[verdict]} You can close this page.</p>")


def refusal_page(text: str, *, status: int) -> HTMLResponse:
    """Return the page that says why there is nothing to decide."""
    return _page("Nothing to decide", f'<p role="alert">{escape(text)}</p>', status=status)


def _page(title: str, body: str, *, status: int = 200) -> HTMLResponse:
    html = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} · mcp-fleet</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head>
<body><main><h1>{title}</h1>
{body}
</main></body></html>"""
    return HTMLResponse(html, status_code=status, headers=_HEADERS)
