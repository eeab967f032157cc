"""Answers list requests from the cache, in the words of the gateway's own server.

That server alone knows what a request of each protocol version must look like and what its answer says besides
the rows. It is asked once for each form of request; the next one of the same form costs no more than joining
the rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from pydantic_core import to_json
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_common.auth import Principal
from fleet_common.errors import UpstreamFailed
from fleet_gateway.lists.cache import ListCache
from fleet_gateway.lists.models import Merged
from fleet_gateway.lists.sources import capture, message_of
from fleet_gateway.routing.models import LISTS
from fleet_gateway.toolsets.models import Toolset, of_query

_FORMS = 1024
_FORM_HEADERS = frozenset(
    {b"accept", b"content-type", b"content-encoding", b"mcp-protocol-version", b"mcp-method"}
    | {b"mcp-name", b"mcp-session-id"}
)
# Different in each request, and nothing that a list depends on.
_VOLATILE_META = frozenset({"progressToken", "traceparent", "tracestate", "baggage"})
Form = tuple[Any, ...]


class ListMerger:
    """What answers `tools/list` and its like on `/mcp`."""

    def __init__(
        self,
        local: ASGIApp,
        cache: ListCache,
        *,
        hidden: Callable[[Iterable[str]], frozenset[str]] = lambda _names: frozenset(),
    ) -> None:
        self._local = local
        self._hidden = hidden
        self._cache = cache
        self._forms: OrderedDict[Form, dict[str, Any]] = OrderedDict()

    async def answer(
        self, message: Any, principal: Principal, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a list request; whatever is wrong with it, the gateway's own server says so."""
        form = _form_of(message, scope)
        said = self._forms.get(form) if form else None
        if said is None:
            status, content_type, own = await capture(self._local, scope, receive)
            said = _result_in(status, content_type, own)
            if said is None:
                await _send(send, status, content_type, own)
                return
            said = _around_rows(said, LISTS[message["method"]])
            if form:
                self._remember(form, said)
        merged = await self._cache.get(message["method"], principal)
        body = self._body(message, said, merged, of_query(scope["query_string"]))
        await _send(send, 200, "application/json", body)

    def _remember(self, form: Form, said: dict[str, Any]) -> None:
        self._forms[form] = said
        while len(self._forms) > _FORMS:
            self._forms.popitem(last=False)

    def _body(
        self, message: dict[str, Any], said: dict[str, Any], merged: Merged, toolset: Toolset
    ) -> bytes:
        if "ttlMs" in said:
            said = {**said, "ttlMs": merged.ttl_ms(self._cache.now())}
        rows = _joined(
            merged,
            toolset if message["method"] == "tools/list" else None,
            self._hidden(row.key for row in merged.rows),
        )
        around = to_json({"jsonrpc": "2.0", "id": message["id"], "result": said})
        return b"".join((around.removesuffix(b"]}}"), rows, b"]}}"))


def _around_rows(said: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a result without rows; where they belong comes last, so that behind them is only `]}}`."""
    rest = {name: value for name, value in said.items() if name != key}
    shared = {"cacheScope": "private"} if "ttlMs" in said else {}
    return {**rest, **shared, key: []}


@lru_cache(maxsize=256)  # a list of 100 tools is about 100 KB
def _joined(merged: Merged, toolset: Toolset | None, hidden: frozenset[str]) -> bytes:
    return b",".join(
        row.encoded
        for row in merged.rows
        if toolset is None or (toolset.lists(row.key) and row.key not in hidden)
    )


def _form_of(message: Any, scope: Scope) -> Form | None:
    """Return what the validity of a request depends on, its id aside; None when that cannot be told."""
    if not isinstance(message, dict) or message.keys() - {"jsonrpc", "id", "method", "params"}:
        return None
    if type(message.get("id")) not in {int, str}:
        return None
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    if params and isinstance(meta, dict) and not _VOLATILE_META.isdisjoint(meta):
        params = {**params, "_meta": {k: v for k, v in meta.items() if k not in _VOLATILE_META}}
    # A list inside the tuple: a generator is entered once for each header.
    headers = tuple([pair for pair in scope["headers"] if pair[0] in _FORM_HEADERS])
    said = to_json([message.get("jsonrpc"), message["method"], params])
    return headers, said, "params" in message


def _result_in(status: int, content_type: str, body: bytes) -> dict[str, Any] | None:
    if status != 200:
        return None
    try:
        result = message_of(content_type, body).get("result")
    except UpstreamFailed:
        return None
    return result if isinstance(result, dict) else None


async def _send(send: Send, status: int, content_type: str, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    if content_type:
        headers.append((b"content-type", content_type.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
