"""A stateful Gmail on a loopback port: the calls that fleet_data makes, quota units, and faults on demand.

    python services/data/tests/emulate/gmail.py --port 4002

Each bearer token is a mailbox of its own. `PUT /emulator/faults` says what goes wrong next in the caller's
mailbox, `GET /emulator/sent` returns what was really sent, MIME and all, `POST /emulator/received` brings a mail in.
Prints its URL when it is up.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from itertools import count
from typing import Any

from aiohttp import web

# Units of the quota by call (developers.google.com/gmail/api/reference/quota).
UNITS = {
    "drafts.create": 10,
    "drafts.send": 100,
    "drafts.list": 5,
    "drafts.delete": 10,
    "messages.send": 100,
    "messages.list": 5,
    "messages.get": 5,
    "history.list": 2,
}
PER_MINUTE = 15_000
ROOT = "/gmail/v1/users/{user}"
_ids = count(0x18F0_0000_0000)


@dataclass
class Message:
    id: str
    raw: bytes
    label: str
    at: float = field(default_factory=time.time)

    @property
    def mime(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=default)

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "threadId": self.id, "labelIds": [self.label]}


@dataclass
class Mailbox:
    drafts: dict[str, Message] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)
    received: list[Message] = field(default_factory=list)
    faults: dict[str, deque[Any]] = field(default_factory=dict)
    spent: deque[tuple[float, int]] = field(default_factory=deque)
    units: int = 0
    per_minute: int = PER_MINUTE
    page: int = 500

    @property
    def all(self) -> list[Message]:
        """Return what was sent and received, oldest first."""
        return sorted([*self.sent, *self.received], key=lambda message: message.at)

    def spend(self, units: int) -> bool:
        """Take units from the last minute's; False when there are not so many left."""
        now = time.monotonic()
        while self.spent and self.spent[0][0] < now - 60:
            self.units -= self.spent.popleft()[1]
        if self.units + units > self.per_minute:
            return False
        self.spent.append((now, units))
        self.units += units
        return True

    def find(self, query: str, among: list[Message]) -> list[Message]:
        """Return what matches `rfc822msgid:ID`, or has every word somewhere; `-from:me` and `after:` are known."""
        wanted = query.removeprefix("rfc822msgid:")
        if wanted != query:
            return [m for m in among if str(m.mime["Message-ID"]).strip("<>") == wanted]
        return [m for m in among if all(_meets(m, word) for word in query.lower().split())]


def _meets(message: Message, word: str) -> bool:
    if word == "-from:me":
        return message.label != "SENT"
    if word.startswith("after:"):
        return message.at >= int(word.removeprefix("after:"))
    return word in message.raw.decode().lower()


def error(status: int, reason: str) -> web.Response:
    told = {"code": status, "message": reason, "errors": [{"reason": reason, "domain": "global"}]}
    return web.json_response({"error": told}, status=status)


class Gmail:
    """All mailboxes; the handlers are named after the calls of the API."""

    def __init__(self) -> None:
        self.mailboxes: dict[str, Mailbox] = {}

    def app(self) -> web.Application:
        app = web.Application(client_max_size=35 * 1024 * 1024)
        app.add_routes(
            [
                web.post(f"{ROOT}/drafts", self.call("drafts.create", self.create_draft)),
                web.get(f"{ROOT}/drafts", self.call("drafts.list", self.list_drafts)),
                web.post(f"{ROOT}/drafts/send", self.call("drafts.send", self.send_draft)),
                web.delete(f"{ROOT}/drafts/{{id}}", self.call("drafts.delete", self.delete_draft)),
                web.post(f"{ROOT}/messages/send", self.call("messages.send", self.send)),
                web.get(f"{ROOT}/messages", self.call("messages.list", self.list_messages)),
                web.get(f"{ROOT}/messages/{{id}}", self.call("messages.get", self.get_message)),
                web.get(f"{ROOT}/history", self.call("history.list", self.list_history)),
                web.put("/emulator/faults", self.set_faults),
                web.get("/emulator/sent", self.show_sent),
                web.post("/emulator/received", self.receive),
                web.get("/emulator/count", self.show_count),
            ]
        )
        return app

    def mailbox(self, request: web.Request) -> Mailbox | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token or token == "revoked":
            return None
        return self.mailboxes.setdefault(token, Mailbox())

    def call(self, name: str, handle: Callable[[Mailbox, web.Request, Any], web.Response]) -> Any:
        async def answer(request: web.Request) -> web.StreamResponse:
            box = self.mailbox(request)
            if box is None:
                return error(401, "authError")
            body = await request.json() if request.can_read_body else {}
            fault = box.faults[name].popleft() if box.faults.get(name) else None
            if isinstance(fault, int):
                return error(fault, "rateLimitExceeded" if fault in {403, 429} else "backendError")
            if not box.spend(UNITS[name]):
                return error(429, "rateLimitExceeded")
            if fault == "drop_before":
                return drop(request)
            response = handle(box, request, body)
            return drop(request) if fault == "drop_after" else response

        return answer

    def create_draft(self, box: Mailbox, _: web.Request, body: Any) -> web.Response:
        raw = base64.urlsafe_b64decode(body["message"]["raw"] + "==")
        message = Message(f"{next(_ids):x}", raw, "DRAFT")
        if message.mime["To"] is None:
            return error(400, "invalidArgument")
        id_ = f"r-{message.id}"
        box.drafts[id_] = message
        return web.json_response({"id": id_, "message": message.to_json()})

    def list_drafts(self, box: Mailbox, request: web.Request, _: Any) -> web.Response:
        found = box.find(request.query.get("q", ""), list(box.drafts.values()))
        drafts = [{"id": i, "message": m.to_json()} for i, m in box.drafts.items() if m in found]
        return web.json_response({"drafts": drafts} if drafts else {})

    def send_draft(self, box: Mailbox, _: web.Request, body: Any) -> web.Response:
        draft = box.drafts.pop(body["id"], None)
        if draft is None:
            return error(404, "notFound")
        return self._send(box, draft.raw)

    def delete_draft(self, box: Mailbox, request: web.Request, _: Any) -> web.Response:
        if box.drafts.pop(request.match_info["id"], None) is None:
            return error(404, "notFound")
        return web.Response(status=204)

    def send(self, box: Mailbox, _: web.Request, body: Any) -> web.Response:
        return self._send(box, base64.urlsafe_b64decode(body["raw"] + "=="))

    def _send(self, box: Mailbox, raw: bytes) -> web.Response:
        message = Message(f"{next(_ids):x}", raw, "SENT")
        box.sent.append(message)
        return web.json_response(message.to_json())

    def list_messages(self, box: Mailbox, request: web.Request, _: Any) -> web.Response:
        found = box.find(request.query.get("q", ""), box.all)[::-1]
        most = min(int(request.query.get("maxResults", 100)), box.page)
        first = int(request.query.get("pageToken", 0))
        listed = [{"id": m.id, "threadId": m.id} for m in found[first : first + most]]
        told = {"messages": listed, "resultSizeEstimate": len(found)}
        more = {"nextPageToken": str(first + most)} if len(found) > first + most else {}
        return web.json_response(told | more)

    def get_message(self, box: Mailbox, request: web.Request, _: Any) -> web.Response:
        found = next((m for m in box.all if m.id == request.match_info["id"]), None)
        if found is None:
            return error(404, "notFound")
        wanted = request.query.getall("metadataHeaders", [])
        headers = [{"name": n, "value": str(found.mime[n])} for n in wanted if found.mime[n]]
        body = found.mime.get_body(("plain",))
        snippet = " ".join(body.get_content().split())[:200] if body else ""
        told = {"payload": {"headers": headers}, "snippet": snippet}
        return web.json_response({**found.to_json(), **told})

    def list_history(self, box: Mailbox, request: web.Request, _: Any) -> web.Response:
        since = int(request.query["startHistoryId"])
        added = [{"id": str(n), "messagesAdded": [{"message": m.to_json()}]}
                 for n, m in enumerate(box.sent, 1) if n > since]  # fmt: skip
        return web.json_response({"history": added, "historyId": str(len(box.sent))})

    async def set_faults(self, request: web.Request) -> web.Response:
        """Take `{"faults": {"drafts.send": [429, "drop_after", null]}, "per_minute": 15000}`."""
        box, told = self.mailbox(request), await request.json()
        assert box is not None
        box.faults = {name: deque(faults) for name, faults in told.get("faults", {}).items()}
        box.per_minute = told.get("per_minute", box.per_minute)
        box.page = told.get("page", box.page)
        return web.json_response({})

    async def receive(self, request: web.Request) -> web.Response:
        """Take a mail as it comes in from outside."""
        box = self.mailbox(request)
        assert box is not None
        box.received.append(Message(f"{next(_ids):x}", await request.read(), "INBOX"))
        return web.json_response({})

    async def show_count(self, request: web.Request) -> web.Response:
        box = self.mailbox(request)
        assert box is not None
        return web.json_response({"sent": len(box.sent)})

    async def show_sent(self, request: web.Request) -> web.Response:
        box = self.mailbox(request)
        assert box is not None
        sent = [
            {"to": m.mime["To"], "message_id": m.mime["Message-ID"], "raw": m.raw.decode()}
            for m in box.sent
        ]
        return web.json_response({"sent": sent, "drafts": len(box.drafts)})


def drop(request: web.Request) -> web.StreamResponse:
    """Cut the connection instead of answering."""
    assert isinstance(request.transport, asyncio.WriteTransport)
    request.transport.abort()
    return web.Response()


async def serve(port: int) -> None:
    runner = web.AppRunner(Gmail().app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(serve(parser.parse_args().port))
