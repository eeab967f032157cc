"""`python -m fleet_cli.forkserver MODULE`: import MODULE once, then become services by fork.

Importing the MCP stack costs each service 1.7 s of CPU, and a laptop starts four of them: forked from one
process that has imported it, they share that time and its memory. What a service runs is what
`python -m fleet_<service> serve` runs, in a process of its own; `fleet_cli.forking` is the other end.

One JSON object per line. In: what to run. Out: `{"pid"}` for each, and `{"ended", "status"}` when one has ended.
The end of the input ends this process; the services live on.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
from pathlib import Path
from typing import Any

_CHUNK = 65_536


def main() -> int:
    """Serve orders until the input ends, or be a service until that ends."""
    gc.disable()  # what is imported stays: looking for garbage among it costs a quarter of a second
    importlib.import_module(sys.argv[1])
    gc.freeze()  # a collection in a child would otherwise touch, and so copy, every shared page
    gc.enable()
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    pending = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, _CHUNK)
            _report_ended()
        if 0 in ready:
            chunk = os.read(0, _CHUNK)
            if not chunk:
                return 0
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                order = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    os.closerange(woken, waker + 1)
                    return _become(order)
                _say(pid=pid)


def _report_ended() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say(ended=pid, status=os.waitstatus_to_exitcode(status))


def _say(**facts: int) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def _become(order: dict[str, Any]) -> int:
    """Turn into the service, as `python -m` would have started it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    _redirect(order["log"])
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    module, *words = order["module"]
    sys.argv = [module, *words]
    _name_process(module)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _redirect(log: str) -> None:
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, log, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.dup2(1, 2)


def _name_process(module: str) -> None:
    """Show the service's name in `ps` and `top`; the kernel keeps 15 characters."""
    Path("/proc/self/comm").write_text(module[:15], "ascii")


if __name__ == "__main__":
    sys.exit(main())
