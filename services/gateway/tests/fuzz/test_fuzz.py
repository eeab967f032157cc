"""Whatever comes in: no server error, no tool outside its caller's policy, not a byte of another tenant.

The requests are sound ones with a few things changed, several at once: noise alone would be refused at the first door.
"""

from __future__ import annotations

import asyncio
import json
import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import hypothesis
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from fleet_common.testing.wire import MODERN

FEW = int(os.environ.get("FUZZ_EXAMPLES", "80"))
MANY = int(os.environ.get("FUZZ_EXAMPLES", "2000"))
STILL_S = 0.3  # a stream that says nothing for this long is left


class Memory(Protocol):
    """What the services remember (see conftest.py)."""

    ran: set[tuple[str, str]]
    secret: dict[str, str]
    tenants: dict[str, str]


class World(Protocol):
    """What the fixture `world` gives (see conftest.py)."""

    app: ASGIApp
    memory: Memory
    keys: dict[str, str]
    turn: int

    def may_run(self, tenant: str, name: str) -> bool: ...


@dataclass
class Request:
    """One HTTP request as a server hands it over."""

    method: str = "POST"
    path: str = "/mcp"
    query: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    chunks: int = 1

    def scope(self) -> dict[str, Any]:
        named = [(name.encode(), value.encode()) for name, value in self.headers]
        return {
            "type": "http",
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "root_path": "",
            "query_string": self.query.encode(),
            "headers": named,
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
        }

    def messages(self) -> Iterator[Message]:
        size = max(1, -(-len(self.body) // self.chunks))
        parts = [self.body[at : at + size] for at in range(0, len(self.body), size)] or [b""]
        for number, part in enumerate(parts, 1):
            yield {"type": "http.request", "body": part, "more_body": number < len(parts)}


@dataclass
class Answer:
    """What came back; without a status the client had left before."""

    status: int | None = None
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""


async def ask(app: ASGIApp, request: Request) -> Answer:
    """Send a request, and leave where the answer is a stream that goes on."""
    answer, messages, left = Answer(), request.messages(), asyncio.Event()

    async def receive() -> Message:
        for message in messages:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], dict(message["headers"])
            return
        answer.body += message.get("body", b"")
        if not message.get("more_body", False):
            left.set()

    running = asyncio.ensure_future(app(request.scope(), receive, send))
    await asyncio.wait({running}, timeout=5 if request.method == "POST" else STILL_S)
    left.set()
    async with asyncio.timeout(5):
        await running
    return answer


TOOLS = ["crm_get", "crm_find", "crm_echo", "crm_kept", "crm_write", "gh_get"]
FLEET = ["fleet_whoami", "fleet_status", "fleet_find_tools", "fleet_audit_search"]
ODD = [
    "",
    "no_such",
    "crm_*",
    "CRM_GET",
    "crm_get ",
    "../crm_write",
    "crm_get\n",
    "é",
    "\ud800",
    "x" * 5000,
]
URIS = ["crm://own/a", "crm://own/../b", "file:///etc/passwd", "crm://", "data.task1", "review"]
NAMES = st.sampled_from([*TOOLS * 8, *FLEET, "fleet_call_tool", *ODD, *URIS])
METHODS = st.sampled_from(
    [
        *["tools/call"] * 24,
        *["tools/list"] * 4,
        *("resources/read", "prompts/get", "prompts/list", "resources/list", "server/discover"),
        *("resources/templates/list", "completion/complete", "initialize", "ping", "tasks/get"),
        *("notifications/initialized", "logging/setLevel", "no/such", ""),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
INNER = [{"name": name, "arguments": {}} for name in TOOLS]
SOUND = st.sampled_from([*[{}] * 6, *[{"text": "häh \U0001f600"}] * 3, *INNER, {"query": "crm"}])
ARGUMENTS = st.one_of(SOUND, SOUND, SOUND, JSON)
DOORS = st.sampled_from(
    [
        *["/mcp"] * 30,
        *["/data/mcp", "/key/mcp", "/data/key/mcp", "/api/tools/"] * 10,
        *("/devops/mcp", "/devops/key/mcp", "/data/mcp/", "//mcp", "/data/../mcp", "/none/mcp"),
        *("/metrics", "/livez", "/webhooks/github", "/uploads/1", "/exports/1", "/unsubscribe/x"),
        *("/oauth/x/callback", "/.well-known/oauth-protected-resource/mcp", "/v1/models", "/"),
    ]
)
VERBS = st.sampled_from([*["POST"] * 90, "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "X"])
QUERIES = st.sampled_from(
    [*[""] * 4, "tools=crm_*", "tools=gh_*", "mode=search", "tools=%00&mode=x"]
)
VERSIONS = st.sampled_from(
    [*[MODERN] * 4, "2025-11-25", "2025-11-25", "2025-03-26", "", "zzzz", "2026-07-29"]
)
WHO = st.sampled_from([*["acme", "globex"] * 9, "nobody"])


def base64(name: str) -> str:
    return f"=?base64?{b64encode(name.encode('utf-8', 'surrogatepass')).decode()}?="


Change = Callable[[Request, dict[str, str]], None]


def put(name: str, value: str, *, first: bool = False, instead: bool = False) -> Change:
    """Return what adds a header, in which `{acme}` stands for that tenant's key."""

    def change(request: Request, keys: dict[str, str]) -> None:
        said = (name, value.replace("{acme}", keys["acme"]).replace("{globex}", keys["globex"]))
        kept = [pair for pair in request.headers if pair[0] != name or not instead]
        request.headers = [said, *kept] if first else [*kept, said]

    return change


def reshape(shape: Callable[[bytes], bytes]) -> Change:
    """Return what changes the body."""

    def change(request: Request, _keys: dict[str, str]) -> None:
        request.body = shape(request.body)

    return change


HEADERS = {
    "mcp-protocol-version": [MODERN, "2025-11-25", "x", ""],
    "mcp-method": ["tools/call", "tools/list", "subscriptions/listen", "ping", ""],
    "mcp-name": [*TOOLS, *map(base64, TOOLS), "=?base64?%?=", ""],
    "authorization": [
        "Bearer {acme}",
        "Bearer {globex}",
        "Bearer",
        "Basic {acme}",
        "Bearer x.y.z",
        "",
    ],
    "x-api-key": ["{acme}", "{globex}", "x"],
    "host": ["evil.example", "127.0.0.1", ""],
    "origin": ["https://evil.example", "null", "http://testserver"],
    "accept": ["text/html", "*/*", ""],
    "content-type": ["text/plain", "application/json; charset=utf-16", ""],
    "content-length": ["0", "-1", "99999999999999999999"],
    "content-encoding": ["gzip"],
    "connection": ["mcp-name, mcp-protocol-version, authorization"],
    "mcp-session-id": ["x"],
    "mcp-param-text": ["x"],
    "fleet-call": ["1.99999999999.00", "x"],
    "fleet-priority": ["batch"],
    "x-request-id": ["x" * 200],
    "traceparent": ["00-0-0-0", "x"],
    "x-forwarded-for": ["10.0.0.1"],
    "last-event-id": ["1"],
}
SHAPES: list[Callable[[bytes], bytes]] = [
    lambda body: b"[" + body + b"]",
    lambda body: b"[" + body + b"," + body + b"]",
    lambda body: b"\xef\xbb\xbf" + body,
    lambda body: body.decode("latin-1").encode("utf-16"),
    lambda body: body[: len(body) // 2],
    lambda body: body + body,
    lambda body: body[:-1] + b',"method":"tools/call"}',
    lambda body: body[:-1] + b',"params":{"name":"crm_write","arguments":{}}}',
    lambda body: body.replace(b'"name":', b'"name":"crm_write","name":'),
    lambda body: body.replace(b'"name":', b'"name":{"a":1},"x":'),
    lambda body: body.replace(b'"id": 1', b'"id":' + b"9" * 400),
    lambda body: body.replace(b'"id": 1', b'"id":null'),
    lambda body: body.replace(b'"id": 1', b'"id":{"a":[1]}'),
    lambda body: body.replace(b'"id": 1', b'"id":1.5e300'),
    lambda body: body.replace(b'"2.0"', b'"1.0"'),
    lambda body: body.replace(b"{}", b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"),
    lambda body: body.replace(b"{}", b'{"a":NaN}'),
    lambda body: body.replace(b'"', b"'"),
    lambda _body: b"",
    lambda _body: b"\x00\xff",
]  # fmt: skip
CHANGES = st.one_of(
    st.sampled_from(
        [
            put(name, value, first=first, instead=instead)
            for name, values in HEADERS.items()
            for value in values
            for first, instead in ((True, False), (False, False), (False, True))
        ]
    ),
    st.sampled_from([reshape(shape) for shape in SHAPES]),
)


@dataclass(frozen=True)
class Draft:
    """What a request is made of; the keys are put in when it is sent."""

    door: str
    verb: str
    query: str
    version: str
    who: str
    method: str
    name: str
    arguments: Any
    changes: list[Change]
    chunks: int

    def request(self, keys: dict[str, str]) -> Request:
        made = Request(
            self.verb, self.door, self.query, [("host", "testserver")], chunks=self.chunks
        )
        made.headers += [
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("authorization", f"Bearer {keys.get(self.who, 'fleet_00000000_no')}"),
        ]
        if self.door == "/api/tools/":
            made.path += self.name.encode("utf-8", "replace").decode()
            made.body = json.dumps(self.arguments).encode()
        else:
            self._speak(made)
        for change in self.changes:
            change(made, keys)
        return made

    def _speak(self, made: Request) -> None:
        params: dict[str, Any] = {"name": self.name, "arguments": self.arguments}
        if self.method == "resources/read":
            params = {"uri": self.name}
        if self.version:
            made.headers.append(("mcp-protocol-version", self.version))
        if self.version == MODERN:
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            made.headers += [("mcp-method", self.method), ("mcp-name", _header(self.name))]
        body = {"jsonrpc": "2.0", "id": 1, "method": self.method, "params": params}
        made.body = json.dumps(body).encode()


def _header(name: str) -> str:
    return name if name.isascii() and name.isprintable() and name == name.strip() else base64(name)


DRAFTS = st.builds(
    Draft,
    door=DOORS,
    verb=VERBS,
    query=QUERIES,
    version=VERSIONS,
    who=WHO,
    method=METHODS,
    name=NAMES,
    arguments=ARGUMENTS,
    changes=st.lists(CHANGES, max_size=2),
    chunks=st.integers(1, 3),
)


PROBES = [("tools/call", "crm_kept"), ("tools/list", ""), ("tools/call", "crm_echo")]


def sound(who: str, turn: int) -> Draft:
    """Return what a tenant asks for properly, in both eras by turns."""
    method, name = PROBES[turn % len(PROBES)]
    version = (MODERN, "2025-11-25")[turn % 2]
    return Draft("/mcp", "POST", "", version, who, method, name, {}, [], 1)


async def check(world: World, drafts: list[Draft]) -> None:
    """Send them together, with a sound request of each tenant; look at what ran and what came back."""
    keys = {name: world.keys[tenant] for name, tenant in world.memory.tenants.items()}
    probes = [sound(who, world.turn) for who in keys]
    requests = [draft.request(keys) for draft in [*probes, *drafts]]
    world.turn += 1
    answers = await asyncio.gather(*(ask(world.app, each) for each in requests))
    for tenant, name in world.memory.ran:
        assert world.may_run(tenant, name), f"{name} ran for {tenant}"
    world.memory.ran.clear()
    for request, answer in zip(requests, answers, strict=True):
        _judge(world, request, answer)
    for probe, answer in zip(probes, answers, strict=False):
        tenant = world.memory.tenants[probe.who]
        told = world.memory.secret[tenant].encode() in answer.body
        assert answer.status == 200, (probe, answer)
        assert told is (probe.method == "tools/call"), (probe, answer)
        listed = {name for name in _listed(answer) if not name.startswith("fleet_")}
        may = {name for name in TOOLS if world.may_run(tenant, name)}
        assert listed == (may if probe.method == "tools/list" else set())


def _judge(world: World, request: Request, answer: Answer) -> None:
    told = b"".join([*answer.headers.values(), answer.body])
    status = answer.status or 0
    assert status < 500 or (status == 503 and b"retry-after" in answer.headers), (request, answer)
    assert b"Traceback" not in told
    sent = str(request.headers)
    for tenant, secret in world.memory.secret.items():
        if secret.encode() in told:
            assert world.keys[tenant] in sent, (request, answer)
    for name in _listed(answer):
        callers = [tenant for tenant, key in world.keys.items() if key in sent]
        assert name.startswith("fleet_") or any(world.may_run(each, name) for each in callers)


def _listed(answer: Answer) -> Iterator[str]:
    for line in answer.body.removeprefix(b"data: ").split(b"\ndata: "):
        try:
            tools = json.loads(line)["result"]["tools"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        yield from (tool["name"] for tool in tools)


def usual(examples: int, *, same: bool) -> hypothesis.settings:
    """Return settings; `same` makes every run the same, so that a test suite tells what a change has broken."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=same,
        database=None,
        suppress_health_check=checks,
    )


@pytest.mark.timeout(60)
@usual(FEW, same=True)
@given(drafts=st.lists(DRAFTS, min_size=1, max_size=4))
async def test_nothing_that_comes_in_breaks_the_gateway_or_a_promise(
    world: World, drafts: list[Draft]
) -> None:
    await check(world, drafts)


@pytest.mark.load
@pytest.mark.timeout(1800)
@usual(MANY, same=False)
@given(drafts=st.lists(DRAFTS, min_size=1, max_size=6))
async def test_nothing_in_hours_of_noise_breaks_it_either(
    world: World, drafts: list[Draft]
) -> None:
    await check(world, drafts)
