"""Pins: the digest of each tool definition as it was first seen in a version of its service.

A definition that changes while the version stays the same was changed by nobody's release. It is held back until
the version changes or an operator accepts it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import anyio.to_thread

from fleet_common.errors import NotFound
from fleet_common.redis import Redis

_SEPARATOR = "\x1f"  # in no version and no tool name


@dataclass(frozen=True, slots=True)
class Definition:
    """One tool in one version of its service."""

    version: str
    tool: str


Digests = dict[Definition, str]


@dataclass(slots=True)
class Pins:
    """What is known about one service.

    Attributes:
        pinned: the digest that each definition must have.
        held: the digest of each definition that is held back.
    """

    pinned: Digests = field(default_factory=dict)
    held: Digests = field(default_factory=dict)

    def judge(self, seen: Digests) -> None:
        """Pin what was never seen; what differs from its pin is held, and nothing else."""
        for definition, digest in seen.items():
            self.pinned.setdefault(definition, digest)
        self.held = {
            definition: digest
            for definition, digest in seen.items()
            if self.pinned[definition] != digest
        }

    def accept(self, tool: str) -> None:
        """Pin the held definition of `tool` in place of the old one.

        Raises:
            NotFound: none is held.
        """
        found = {each: digest for each, digest in self.held.items() if each.tool == tool}
        if not found:
            raise NotFound("held definition of", tool, hint="`fleet registry list` shows them")
        self.pinned |= found
        self.held = {each: digest for each, digest in self.held.items() if each.tool != tool}

    def allows(self, tool: str, digest: str) -> bool:
        """Return whether a definition may be shown: it is pinned for some version, or never was."""
        digests = {pin for definition, pin in self.pinned.items() if definition.tool == tool}
        return not digests or digest in digests


class PinStore(Protocol):
    """Where pins outlive the process."""

    async def judge(self, service: str, seen: Digests) -> Pins:
        """Judge what was seen of `service` and return what is known now."""
        ...

    async def accept(self, service: str, tool: str) -> None:
        """Pin the held definition of a tool.

        Raises:
            NotFound: none is held.
        """
        ...

    async def known(self) -> dict[str, Pins]:
        """Return what is known of each service."""
        ...


class RedisPins:
    """Pins that all replicas share: two hashes for each service."""

    _PINNED, _HELD = "fleet:registry:pinned:", "fleet:registry:held:"

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def judge(self, service: str, seen: Digests) -> Pins:
        """Judge what was seen of `service` and return what is known now."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for definition, digest in seen.items():
                pipe.hsetnx(self._PINNED + service, _field(definition), digest)
            pipe.hgetall(self._PINNED + service)
            pinned = _read((await pipe.execute())[-1])
        pins = Pins(pinned)
        pins.judge(seen)
        await self._write(service, Pins({}, pins.held))
        return pins

    async def accept(self, service: str, tool: str) -> None:
        """Pin the held definition of a tool."""
        pins = (await self.known()).get(service, Pins())
        pins.accept(tool)
        await self._write(service, pins)

    async def known(self) -> dict[str, Pins]:
        """Return what is known of each service."""
        known = {}
        async for key in self._redis.scan_iter(match=f"{self._PINNED}*"):
            service = key.decode().removeprefix(self._PINNED)
            known[service] = Pins(
                _read(await self._redis.hgetall(self._PINNED + service)),
                _read(await self._redis.hgetall(self._HELD + service)),
            )
        return known

    async def _write(self, service: str, pins: Pins) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            if pins.pinned:
                pipe.hset(self._PINNED + service, mapping=_written(pins.pinned))
            pipe.delete(self._HELD + service)
            if pins.held:
                pipe.hset(self._HELD + service, mapping=_written(pins.held))
            await pipe.execute()


class FilePins:
    """Pins in one JSON file; without a path they last as long as the process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._pins: dict[str, Pins] = {}

    async def judge(self, service: str, seen: Digests) -> Pins:
        """Judge what was seen of `service` and return what is known now."""

        def judge() -> Pins:
            with self._locked() as pins:
                known = pins.setdefault(service, Pins())
                known.judge(seen)
                return known

        return await anyio.to_thread.run_sync(judge)

    async def accept(self, service: str, tool: str) -> None:
        """Pin the held definition of a tool."""

        def accept() -> None:
            with self._locked() as pins:
                pins.get(service, Pins()).accept(tool)

        await anyio.to_thread.run_sync(accept)

    async def known(self) -> dict[str, Pins]:
        """Return what is known of each service."""

        def known() -> dict[str, Pins]:
            with self._locked() as pins:
                return pins

        return await anyio.to_thread.run_sync(known)

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Pins]]:
        if self._path is None:
            yield self._pins
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = self._path.with_suffix(".lock")
        with os.fdopen(os.open(lock, os.O_CREAT | os.O_RDWR, 0o600), "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            before = self._path.read_text("utf-8") if self._path.exists() else "{}"
            pins = {
                service: Pins(_read(kept["pinned"]), _read(kept["held"]))
                for service, kept in json.loads(before).items()
            }
            yield pins
            self._replace(before, pins)

    def _replace(self, before: str, pins: Mapping[str, Pins]) -> None:
        after = json.dumps(
            {
                service: {"pinned": _written(kept.pinned), "held": _written(kept.held)}
                for service, kept in pins.items()
            },
            indent=1,
        )
        if after != before and self._path is not None:
            fresh = self._path.with_suffix(".new")
            fresh.write_text(after, "utf-8")
            fresh.replace(self._path)


def _field(definition: Definition) -> str:
    return f"{definition.version}{_SEPARATOR}{definition.tool}"


# Any: redis-py asks for a dict of its own union of types, and dicts are invariant.
def _written(digests: Digests) -> dict[Any, Any]:
    return {_field(definition): digest for definition, digest in digests.items()}


def _read(stored: Mapping[Any, Any]) -> Digests:
    # Redis answers in bytes, a file in text.
    pairs = ((_text(name), _text(digest)) for name, digest in stored.items())
    return {Definition(*name.split(_SEPARATOR, 1)): digest for name, digest in pairs}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
