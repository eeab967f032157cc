"""The gateway in front of the conformance server, for a suite that can send no key: each request gets one here."""

from __future__ import annotations

import argparse
from pathlib import Path

from starlette.types import Receive, Scope, Send

from fleet_common.auth.internal import generate_keypair
from fleet_common.auth.keys import KeyFile
from fleet_common.mcp.run import serve_app
from fleet_common.mcp.runtime import Runtime
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server", required=True, help="URL of the conformance server")
    parser.add_argument("--folder", type=Path, required=True, help="where keys and pins are made")
    given = parser.parse_args()
    folder: Path = given.folder
    (folder / "private.pem").write_bytes(generate_keypair()[0])
    key = KeyFile(folder / "keys.json").create(name="suite", roles=["admin"], tenant="demo").text
    settings = Settings(
        port=given.port,
        services=(f"conformance={given.server}",),
        keys_file=folder / "keys.json",
        internal_private_key_file=folder / "private.pem",
        pins_file=folder / "pins.json",
    )
    runtime = Runtime.create("gateway", "1", settings)
    app = create_gateway(SERVICE, settings, runtime=runtime)

    async def with_key(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = [*scope["headers"], (b"authorization", f"Bearer {key}".encode())]
        await app(scope, receive, send)

    return serve_app(with_key, settings, runtime)


if __name__ == "__main__":
    raise SystemExit(main())
