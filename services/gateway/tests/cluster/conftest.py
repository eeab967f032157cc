"""A Kubernetes API server of two kinds of object: lists, watches from a version, bookmarks, and 410 for what it forgot.

The semantics are those of "Kubernetes API Concepts", "Efficient detection of changes"; `test_mirror.py` holds it to
what the official client makes of it.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from fleet_common.testing.certificates import authority

NAMESPACE = "team"
KINDS = {
    "services": ("v1", "Service"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
}


@dataclass(frozen=True)
class Event:
    version: int
    plural: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    def seen_by(self, selector: str) -> tuple[str, dict[str, Any]] | None:
        """Return the event for a watcher of what has a label: objects come and go with it."""
        was, now = has(self.before, selector), has(self.after, selector)
        if now:
            assert self.after is not None
            return ("MODIFIED" if was else "ADDED"), self.after
        if not was:
            return None
        assert self.before is not None
        gone = copy.deepcopy(self.before)
        gone["metadata"]["resourceVersion"] = str(self.version)
        return "DELETED", gone


def has(item: dict[str, Any] | None, selector: str) -> bool:
    return item is not None and (not selector or selector in item["metadata"].get("labels", {}))


@dataclass
class ApiServer:
    """What the tests do to it; `lists` and `watches` count requests by kind."""

    token: str = "first"
    url: str = ""
    lists: Counter[str] = field(default_factory=Counter)
    watches: Counter[str] = field(default_factory=Counter)
    is_away: bool = False
    gone_status: int = 200  # of the answer that says 410: a real server streams it, others do not
    version: int = 1
    _forgotten: int = 0
    _objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _events: list[Event] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _streams: set[asyncio.Task[Any]] = field(default_factory=set)
    _bookmarked: int = 0

    async def put(self, plural: str, name: str, **content: Any) -> None:
        """Create an object, or replace it."""
        async with self._changed:
            self.version += 1
            labels = content.pop("labels", {})
            metadata = {
                "name": name,
                "namespace": NAMESPACE,
                "labels": labels,
                "annotations": content.pop("annotations", {}),
                "resourceVersion": str(self.version),
            }
            api, kind = KINDS[plural]
            item = {"apiVersion": api, "kind": kind, "metadata": metadata, **content}
            before = self._objects.get((plural, name))
            self._objects[plural, name] = item
            self._note(Event(self.version, plural, before, item))

    async def delete(self, plural: str, name: str) -> None:
        async with self._changed:
            self.version += 1
            gone = self._objects.pop((plural, name))
            self._note(Event(self.version, plural, gone, None))

    async def bookmark(self) -> None:
        """Tell all watchers the current version."""
        async with self._changed:
            self._bookmarked = self.version
            self._changed.notify_all()

    async def forget(self) -> None:
        """Compact: only what happens from now on can be watched."""
        self._forgotten = self.version
        self._events.clear()

    async def cut(self) -> None:
        """Break all watches off."""
        for stream in [*self._streams]:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    def state(self, plural: str, selector: str = "") -> dict[str, dict[str, Any]]:
        return {
            name: item
            for (of, name), item in self._objects.items()
            if of == plural and has(item, selector)
        }

    def _note(self, event: Event) -> None:
        self._events.append(event)
        self._changed.notify_all()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.is_away:
            assert request.transport is not None
            request.transport.abort()
            raise asyncio.CancelledError
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return status(401)
        plural = request.match_info["plural"]
        if request.match_info["namespace"] != NAMESPACE or plural not in KINDS:
            return status(403)
        if request.query.get("watch") in {"true", "True", "1"}:
            return await self._watch(request, plural)
        self.lists[plural] += 1
        api, kind = KINDS[plural]
        items = list(self.state(plural, request.query.get("labelSelector", "")).values())
        metadata = {"resourceVersion": str(self.version)}
        return web.json_response(
            {"apiVersion": api, "kind": f"{kind}List", "metadata": metadata, "items": items}
        )

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        self.watches[plural] += 1
        position = int(request.query["resourceVersion"])
        if position < self._forgotten:
            if self.gone_status != 200:
                return status(self.gone_status)
            expired = {
                "kind": "Status",
                "code": 410,
                "reason": "Expired",
                "message": "too old resource version",
            }
            text = json.dumps({"type": "ERROR", "object": expired})
            return web.Response(text=f"{text}\n", content_type="application/json")
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        task = asyncio.create_task(self._stream(request, response, plural, position))
        self._streams.add(task)
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", 3600))):
                await asyncio.shield(task)
        except TimeoutError:
            pass
        finally:
            self._streams.discard(task)
            task.cancel()
        return response

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, plural: str, position: int
    ) -> None:
        selector = request.query.get("labelSelector", "")
        wants_bookmarks = request.query.get("allowWatchBookmarks", "").lower() == "true"
        told = self._bookmarked
        while True:
            async with self._changed:
                while self.version == position and self._bookmarked == told:
                    await self._changed.wait()
                events = [e for e in self._events if e.version > position and e.plural == plural]
                position, bookmark = self.version, self._bookmarked > told
                told = self._bookmarked
            lines = [seen for event in events if (seen := event.seen_by(selector))]
            if bookmark and wants_bookmarks:
                api, kind = KINDS[plural]
                version = {"resourceVersion": str(told)}
                lines.append(("BOOKMARK", {"apiVersion": api, "kind": kind, "metadata": version}))
            for type_, item in lines:
                event = {"type": type_, "object": item}
                # Unescaped, as Go's encoder leaves it: U+0085 breaks no line.
                text = json.dumps(event, ensure_ascii=False).encode() + b"\n"
                half = len(text) // 2
                await response.write(text[:half])
                await response.write(text[half:])


def status(code: int) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": ""}, status=code)


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """The folder that kubelet keeps for a pod; its ca.crt is the server's."""
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "token").write_text("first\n")
    (folder / "namespace").write_text(NAMESPACE)
    return folder


@pytest.fixture
async def api(account: Path) -> AsyncGenerator[ApiServer]:
    trusted = await asyncio.to_thread(authority, account.parent)
    await asyncio.to_thread((account / "ca.crt").write_text, trusted.pem)
    server = ApiServer()
    app = web.Application()
    for prefix in ("/api/v1", "/apis/discovery.k8s.io/v1"):
        app.router.add_get(f"{prefix}/namespaces/{{namespace}}/{{plural}}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trusted.server)
    await site.start()
    server.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await server.cut()
    await runner.cleanup()
