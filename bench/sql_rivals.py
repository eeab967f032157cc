"""Other servers that run SQL over MCP, installed once in `.bench/`: DBHub from npm, postgres-mcp from PyPI.

DBHub needs Node 22.5: npm brings one. postgres-mcp needs Python 3.12 (`BENCH_PYTHON312`) and pins a pglast that is no
longer published; its own requirements are installed by hand with the nearest one.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bench.rivals import VENVS, CannotRun, python312, run_quietly

DBHUB, NODE = "@bytebase/dbhub@1.4.0", "node@22"
POSTGRES_MCP = "postgres-mcp==0.3.0"
_NEEDS = (
    "pglast==7.22",
    "mcp[cli]<2",
    "psycopg[binary]",
    "psycopg-pool",
    "humanize",
    "attrs",
    "instructor",
)


def dbhub(url: str) -> list[str]:
    """Return the command that runs DBHub on a database.

    Raises:
        one of `rivals.DID_NOT_RUN`: it cannot be installed.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise CannotRun("DBHub needs npm")
    folder = VENVS / "dbhub-1.4.0"
    _once(
        folder,
        [
            npm,
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--prefix",
            str(folder),
            DBHUB,
            NODE,
        ],
    )
    programs = folder / "node_modules" / ".bin"
    return [
        str(programs / "node"),
        str(programs / "dbhub"),
        "--transport",
        "stdio",
        "--dsn",
        _named(url, "postgres"),
    ]


def postgres_mcp(url: str) -> list[str]:
    """Return the command that runs postgres-mcp on a database, restricted to reading.

    Raises:
        as `dbhub`.
    """
    folder = VENVS / "postgres-mcp-0.3.0"
    if not (folder / "bin").exists():
        run_quietly([python312("postgres-mcp"), "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    _once(folder, [*pip, "--no-deps", POSTGRES_MCP], [*pip, *_NEEDS])
    return [
        str(folder / "bin" / "postgres-mcp"),
        "--access-mode",
        "restricted",
        _named(url, "postgresql"),
    ]


def _once(folder: Path, *commands: list[str]) -> None:
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for command in commands:
        run_quietly(command)
    (folder / "done").touch()


def _named(url: str, scheme: str) -> str:
    return urlunsplit(urlsplit(url)._replace(scheme=scheme, query="sslmode=disable"))
