"""A command at a terminal, for what asks a person and nobody else."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress


def at_a_terminal(
    command: Sequence[str], *, answer: str, env: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run `command` as a person does who types `answer`; returns the status and all that was shown."""
    outer, inner = pty.openpty()
    with subprocess.Popen(  # noqa: S603  # a test's own command
        command, env=env, stdin=inner, stdout=inner, stderr=inner
    ) as process:
        os.close(inner)
        os.write(outer, f"{answer}\n".encode())
        shown = b""
        with suppress(OSError):  # how a terminal whose other end is closed says so
            while chunk := os.read(outer, 4096):
                shown += chunk
        status = process.wait(timeout=30)
    os.close(outer)
    return status, shown.decode()
