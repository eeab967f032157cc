"""A small authorization server on a real socket: metadata, keys that rotate, introspection, any token one asks for.

```python
async with issuer_server() as issuer:
    token = issuer.token(aud="http://127.0.0.1:8081/mcp", scope="data:read")
```
"""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from aiohttp import encode_basic_auth, web
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

Key = ECKey | RSAKey
INTROSPECTION_CLIENT = ("fleet", "s3cret")
"""Client id and secret that may ask about opaque tokens."""


class Issuer:
    """The server's state, for tests to change.

    Attributes:
        url: its issuer identifier.
        keys: what it publishes, by key id.
        signing: id of the key that signs.
        is_away: answer everything with 503.
        may_answer: while it is clear, introspection waits.
        opaque: what introspection says about a token; anything else is not active.
        calls: requests by path.
    """

    def __init__(self) -> None:
        self.url = ""
        self.keys: dict[str, Key] = {}
        self.signing = ""
        self.is_away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.opaque: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.rotate()

    def rotate(self, key: Key | None = None) -> str:
        """Publish one more key, P-256 by default, sign with it from now on, and return its id."""
        self.signing = uuid4().hex[:8]
        self.keys[self.signing] = key or ECKey.generate_key("P-256")
        return self.signing

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return the claims of a good token with some changed; None leaves one out."""
        now = int(time.time())
        usual = {
            "iss": self.url,
            "sub": "ada",
            "tenant": "acme",
            "roles": ["viewer"],
            "scope": "data:read",
            "iat": now,
            "exp": now + 300,
            "jti": uuid4().hex,
        }
        return {name: value for name, value in (usual | changed).items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a signed access token (RFC 9068) with some claims and members of its header changed."""
        key = self.keys[self.signing]
        algorithm = "ES256" if isinstance(key, ECKey) else "RS256"
        usual = {"alg": algorithm, "typ": "at+jwt", "kid": self.signing} | (header or {})
        kept = {name: value for name, value in usual.items() if value is not None}
        return jwt.encode(
            kept, self.claims(**claims), key, algorithms=[kept["alg"]], default_type=None
        )

    def app(self) -> web.Application:
        """Return the server."""
        app = web.Application(middlewares=[self._count])
        app.router.add_get("/.well-known/oauth-authorization-server", self._metadata)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_post("/introspect", self._introspect)
        return app

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls[request.path] += 1
        # Any: aiohttp's type for a handler is wider than what it returns here.
        return web.Response(status=503) if self.is_away else await handler(request)

    async def _metadata(self, _: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/jwks"})

    async def _jwks(self, _: web.Request) -> web.Response:
        keys = [{**key.as_dict(private=False), "kid": kid} for kid, key in self.keys.items()]
        return web.json_response({"keys": keys})

    async def _introspect(self, request: web.Request) -> web.Response:
        await self.may_answer.wait()
        if request.headers.get("authorization") != encode_basic_auth(*INTROSPECTION_CLIENT):
            return web.Response(status=401)
        form = await request.post()
        return web.json_response(self.opaque.get(str(form["token"]), {"active": False}))


def unsigned_token(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Return a JWT of these with an empty signature."""
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


@asynccontextmanager
async def issuer_server() -> AsyncGenerator[Issuer]:
    """Serve an `Issuer` on a free loopback port while the block runs."""
    issuer = Issuer()
    runner = web.AppRunner(issuer.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    issuer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield issuer
    finally:
        await runner.cleanup()
