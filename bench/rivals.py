"""Other MCP gateways in front of the same upstream: FastMCP's `create_proxy`, and ContextForge in a venv of its own.

ContextForge needs Python 3.12: `BENCH_PYTHON312` names an interpreter, else PATH and pyenv are searched. Its venv is
made once, in `.bench/`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from fastmcp.server import create_proxy

from bench.processes import Served, free_port, served

CONTEXTFORGE = "mcp-contextforge-gateway==1.1.0"
CONTEXTFORGE_TOOL = "echo-crm-echo-0"  # it renames tools to gateway-tool
VENVS = Path(__file__).parent.parent / ".bench"
_INSTALL_S, _START_S = 600, 300
_ADMIN = "admin@example.com"


class CannotRun(Exception):
    """Raised when a rival cannot be had here; the text says why."""


DID_NOT_RUN = (CannotRun, TimeoutError, httpx.HTTPError, subprocess.SubprocessError)
"""Whatever a rival may raise on its way to its first call."""


@contextmanager
def proxy(upstream: Served) -> Iterator[Served]:
    """Run FastMCP's `create_proxy`."""
    port = free_port()
    command = [sys.executable, "-m", "bench.rivals", str(port), f"{upstream.url}/mcp"]
    with served(command, port=port) as server:
        yield server


@contextmanager
def contextforge(upstream: Served) -> Iterator[tuple[Served, Mapping[str, str]]]:
    """Run ContextForge: one worker, SQLite, no rate limit, no plugins; yield it and the headers it wants.

    Raises:
        one of `DID_NOT_RUN`: there is no Python for it, or it cannot be installed or started.
    """
    python = _installed()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        port = free_port()
        env = _settings(Path(folder))
        command = [str(python), "-m", "uvicorn", "mcpgateway.main:app", "--no-access-log"]
        command += ["--port", str(port)]
        with served(command, port=port, env=env, cwd=Path(folder), start_s=_START_S) as server:
            headers = {"authorization": f"Bearer {_token(python, env, Path(folder))}"}
            _register(server, upstream, headers)
            yield server, headers


def _installed() -> Path:
    folder = VENVS / CONTEXTFORGE.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        run_quietly([python312("ContextForge"), "-m", "venv", str(folder)])
        run_quietly([str(python), "-m", "pip", "install", "--quiet", CONTEXTFORGE])
        (folder / "done").touch()
    return python


def python312(whom: str) -> str:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        os.environ.get("BENCH_PYTHON312"),
        *(shutil.which(f"python3.{minor}") for minor in (12, 13)),
        *(str(path) for path in sorted(pyenv.glob("3.1[23].*/bin/python"))),
    ]
    for candidate in filter(None, candidates):
        # A shim may be on PATH without anything behind it.
        if subprocess.run([candidate, "-c", ""], check=False, capture_output=True).returncode == 0:
            return candidate
    raise CannotRun(f"{whom} needs Python 3.12: name one in BENCH_PYTHON312")


def _settings(folder: Path) -> dict[str, str]:
    password = f"Aa1!{secrets.token_urlsafe(24)}"
    return {
        "DATABASE_URL": f"sqlite:///{folder}/contextforge.db",
        "CACHE_TYPE": "memory",
        "RATE_LIMITING_ENABLED": "false",
        "PLUGINS_ENABLED": "false",
        "MCPGATEWAY_UI_ENABLED": "false",
        "MCPGATEWAY_ADMIN_API_ENABLED": "false",
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "LOG_LEVEL": "ERROR",
        "PLATFORM_ADMIN_EMAIL": _ADMIN,
        "PLATFORM_ADMIN_PASSWORD": password,
        "DEFAULT_USER_PASSWORD": password,
        "BASIC_AUTH_PASSWORD": password,
        "JWT_SECRET_KEY": secrets.token_urlsafe(48),
        "AUTH_ENCRYPTION_SECRET": secrets.token_urlsafe(48),
    }


def _token(python: Path, env: Mapping[str, str], folder: Path) -> str:
    command = [str(python), "-m", "mcpgateway.utils.create_jwt_token"]
    command += ["--username", _ADMIN, "--exp", "600", "--admin"]
    return run_quietly(command, env={**os.environ, **env}, cwd=folder).splitlines()[-1]


def _register(server: Served, upstream: Served, headers: Mapping[str, str]) -> None:
    body = {"name": "echo", "url": f"{upstream.url}/mcp", "transport": "STREAMABLEHTTP"}
    answer = httpx.post(f"{server.url}/v1/gateways", json=body, headers=headers, timeout=120)
    answer.raise_for_status()


def run_quietly(
    command: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=_INSTALL_S, env=env, cwd=cwd
    )
    return done.stdout


def serve_proxy(port: int, url: str) -> None:
    app = create_proxy(url, name="proxy").http_app(stateless_http=True)
    uvicorn.run(app, port=port, log_level="error")


if __name__ == "__main__":
    serve_proxy(int(sys.argv[1]), sys.argv[2])
