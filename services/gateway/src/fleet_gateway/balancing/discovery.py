"""Where the endpoints of a service are: every address that its URLs' host names have in DNS.

The name of a headless Kubernetes Service has one address per ready pod; an ordinary name has one or two.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import structlog
from yarl import URL

from fleet_gateway.balancing.models import Address

log = structlog.get_logger()

_DNS_TIMEOUT_S = 3.0
# The name exists no more, or has no address: a service that is scaled to zero.
_NO_ADDRESS = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


async def addresses(urls: Sequence[str]) -> frozenset[Address] | None:
    """Return the addresses behind `urls`; None when DNS does not answer and nothing is known."""
    found: set[Address] = set()
    for url in urls:
        hosts = await _hosts(URL(url))
        if hosts is None:
            return None
        found |= hosts
    return frozenset(found)


async def _hosts(url: URL) -> frozenset[Address] | None:
    if url.host is None or url.port is None:
        raise ValueError(f"{url} names no host")
    if _is_ip(url.host):
        return frozenset({_address(url, url.host)})
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_DNS_TIMEOUT_S):
            rows = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except socket.gaierror as exc:
        if exc.errno in _NO_ADDRESS:
            return frozenset()
        log.warning("dns_unavailable", host=url.host, error=exc.errno)
        return None
    except TimeoutError:
        log.warning("dns_unavailable", host=url.host, error="timeout")
        return None
    return frozenset(_address(url, str(row[4][0])) for row in rows)


def _address(url: URL, host: str) -> Address:
    netloc = f"[{host}]" if ":" in host else host
    tls_name = url.host if url.scheme == "https" else None
    authority = url.host_port_subcomponent or host
    return Address(f"{url.scheme}://{netloc}:{url.port}", authority, tls_name)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
