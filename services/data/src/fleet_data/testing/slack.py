"""Slack on a loopback port, for a bot that may post to the channels it is in."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOKEN = "xoxb-1-bot"  # noqa: S105 - of nobody
CHANNELS = {"#general": "C0GENERAL", "C0GENERAL": "C0GENERAL"}


@dataclass
class SlackServer:
    """One workspace.

    Attributes:
        faults: what the next posts end with: a status, a code of Slack's, or `lost`: posted, and no answer.
        posted: what is in its channels.
    """

    faults: deque[int | str] = field(default_factory=deque)
    posted: list[dict[str, Any]] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: count(1))

    def app(self) -> Starlette:
        """Return the server's app."""
        return Starlette(
            routes=[
                Route("/api/auth.test", self._who, methods=["POST"]),
                Route("/api/chat.postMessage", self._post, methods=["POST"]),
            ]
        )

    async def _who(self, request: Request) -> Response:
        if refused := _refused(request):
            return refused
        return JSONResponse(
            {"ok": True, "team": "Example", "team_id": "T1", "user": "fleet", "user_id": "U1"}
        )

    async def _post(self, request: Request) -> Response:
        if refused := _refused(request):
            return refused
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, int):
            return Response("busy", fault, headers={"Retry-After": "7"})
        asked = await _fields(request)
        if fault not in {None, "lost"} or asked["channel"] not in CHANNELS:
            return JSONResponse({"ok": False, "error": fault or "channel_not_found"})
        ts = f"1700000000.{next(self._numbers):06}"
        self.posted.append({**asked, "ts": ts})
        if fault == "lost":
            return Response("gateway timeout", 504)
        message = {"type": "message", "text": asked["text"], "ts": ts}
        channel = CHANNELS[asked["channel"]]
        return JSONResponse({"ok": True, "channel": channel, "ts": ts, "message": message})


def _refused(request: Request) -> Response | None:
    if request.headers.get("authorization") == f"Bearer {TOKEN}":
        return None
    return JSONResponse({"ok": False, "error": "invalid_auth"})


async def _fields(request: Request) -> dict[str, Any]:
    """Return what was sent, as JSON or as a form: Slack takes both."""
    if request.headers.get("content-type", "").startswith("application/json"):
        told: dict[str, Any] = json.loads(await request.body())
        return told
    return {name: str(value) for name, value in (await request.form()).items()}
