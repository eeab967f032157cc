"""Which process listens where: fixed distances from one base, and names for whoever holds a port already."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil

from fleet_cli.errors import BadInput, PortTaken

DEFAULT_BASE = 8080
SERVICES = ("gateway", "data", "devops", "aiml")
OFFSETS = {"gateway": 0, "data": 1, "devops": 2, "aiml": 3, "postgres": 5, "valkey": 6}


@dataclass(frozen=True, slots=True)
class Ports:
    """The port of each process, by name."""

    numbers: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        """Return the port of a process."""
        return self.numbers[name]

    def base(self, service: str) -> str:
        """Return the base URL of a service."""
        return f"http://127.0.0.1:{self.numbers[service]}"

    def url(self, service: str) -> str:
        """Return the MCP endpoint of a service."""
        return f"{self.base(service)}/mcp"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on a port; its name and command are unknown when it is another user's."""

    port: int
    pid: int | None
    name: str | None
    command: str | None

    def __str__(self) -> str:
        """Return one line for a person."""
        if self.pid is None:
            return f"{self.port} is held by a process of another user"
        return f"{self.port} is held by {self.name} (pid {self.pid}): {self.command}"


def plan_ports(base: int, environ: Mapping[str, str]) -> Ports:
    """Return the ports of a fleet; a `FLEET_<SERVICE>_PORT` that the user has set wins.

    Raises:
        BadInput: the base leaves no room, a port is none, or two processes would share one.
    """
    if not 1 <= base <= 65535 - max(OFFSETS.values()):
        raise BadInput(f"--port-base {base} leaves no room for the ports above it")
    numbers = {name: base + offset for name, offset in OFFSETS.items()}
    for service in SERVICES:
        variable = f"FLEET_{service.upper()}_PORT"
        if chosen := environ.get(variable):
            numbers[service] = _parsed(variable, chosen)
    _require_distinct(numbers)
    return Ports(numbers)


def require_free(ports: Iterable[int], *, base: int) -> None:
    """Return if nobody listens on any of `ports`.

    Raises:
        PortTaken: the text names each holder and a base that is free.
    """
    taken = [port for port in ports if not is_free(port)]
    if not taken:
        return
    lines = "\n".join(f"  {holder(port)}" for port in taken)
    raise PortTaken(
        f"{'A port is' if len(taken) == 1 else 'Some ports are'} taken:\n{lines}",
        hint=f"Stop it, or use other ports: fleet run --port-base {free_base(base)}",
    )


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def holder(port: int) -> Holder:
    """Return who listens on `port`, as far as this user may know."""
    for process in psutil.process_iter():
        try:
            connections = process.net_connections(kind="tcp")
            for connection in connections:
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    command = " ".join(process.cmdline()) or process.name()
                    return Holder(port, process.pid, process.name(), shortened(command))
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
    return Holder(port, None, None, None)


def free_base(base: int) -> int:
    """Return the next base, in steps of 100, whose ports are all free."""
    last = 65535 - max(OFFSETS.values())
    for candidate in range(base + 100, last, 100):
        if all(is_free(candidate + offset) for offset in OFFSETS.values()):
            return candidate
    return base + 100


def shortened(text: str, limit: int = 100) -> str:
    """Return `text` in at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _parsed(variable: str, chosen: str) -> int:
    if not chosen.isdecimal() or not 1 <= int(chosen) <= 65535:
        raise BadInput(f"{variable}: {chosen!r} is not a port")
    return int(chosen)


def _require_distinct(numbers: Mapping[str, int]) -> None:
    owners: dict[int, str] = {}
    for name, port in numbers.items():
        if port in owners:
            raise BadInput(f"{owners[port]} and {name} cannot both listen on {port}")
        owners[port] = name
