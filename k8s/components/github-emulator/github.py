"""A small GitHub for a cluster to try things on: one repository, admin/shop, whose files take DELAY_S seconds to read.

It runs on the image of devops. Whoever asks is let in, and nothing can be changed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

# Any: ASGI's messages.
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

DELAY_S = float(os.environ.get("DELAY_S", "0.35"))
FILES = {"README.md": b"# shop\n\nThe shop sells lamps.\n", "hello.txt": b"Hello from the shop\n"}
CONTENTS = "/repos/admin/shop/contents/"


async def app(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer with a file, or that there is none."""
    path = str(scope["path"])
    name = path.removeprefix(CONTENTS)
    if path == "/livez":
        await _answer(send, 200, {})
    elif path.startswith(CONTENTS) and name in FILES:
        await asyncio.sleep(DELAY_S)
        await _answer(send, 200, _file(name, FILES[name]))
    else:
        await _answer(send, 404, {"message": "Not Found"})


def _file(name: str, content: bytes) -> dict[str, object]:
    return {
        "type": "file",
        "encoding": "base64",
        "size": len(content),
        "name": name,
        "path": name,
        "content": base64.b64encode(content).decode(),
        "sha": hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest(),
        "html_url": f"https://github.com/admin/shop/blob/main/{name}",
    }


async def _answer(send: Send, status: int, document: dict[str, object]) -> None:
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host=os.environ.get("HOST", "0.0.0.0"),
        port=int(os.environ.get("PORT", "8080")),
        lifespan="off",
        access_log=False,
    )
