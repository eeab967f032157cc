"""The hash chain: how records are numbered, linked and sealed, and how one line is read back.

A record is one line of JSON. Its last member is `hash`: SHA-256, or HMAC-SHA256 with the fleet's audit
key, over exactly the bytes that stand before `,"hash":`. Nothing has to be serialised again to check it. `prev` is the
hash of the record before, `seq` counts from 0, and record 0 of a process is its header, whose `prev` is the last hash
already in the file.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from datetime import UTC, datetime
from typing import Any

from pydantic_core import to_json

from fleet_common.audit.events import AuditEvent, timestamp
from fleet_common.digests import sha256_of

GENESIS = "0" * 64
"""`prev` of a header with nothing before it."""

_LINE = re.compile(rb'(\{.+),"hash":"([0-9a-f]{64})"\}\n', re.DOTALL)
_escaped = json.JSONEncoder(separators=(",", ":"), default=str).encode

Record = dict[str, Any]
"""One record as it was read."""


class BadRecord(Exception):
    """Raised for a line that is no record, or whose hash is not that of its bytes; the text says which."""


class Chain:
    """The records of one process, in order.

    Attributes:
        id: random name of this chain.
        head: hash of the newest record.
        seq: number of the next record.
    """

    def __init__(self, *, service: str, instance: str, key: bytes | None = None) -> None:
        self.id = secrets.token_hex(8)
        self.head = GENESIS
        self.seq = 0
        self._origin = {"service": service, "instance": instance}
        self._key = key

    def start(self, sink: str, *, previous: str | None, cut_bytes: int = 0) -> bytes:
        """Return the header.

        Args:
            sink: kind of the sink; only files are continued.
            previous: hash of the last record that is already there.
            cut_bytes: length of a half-written record at the end that was removed.
        """
        self.head = previous or GENESIS
        facts: Record = {**_now(), "v": 1, "sink": sink, "keyed": self._key is not None}
        return self._seal("start", {**facts, **({"cut_bytes": cut_bytes} if cut_bytes else {})})

    def event(self, event: AuditEvent) -> bytes:
        """Return the record of an event."""
        return self._seal("event", event.facts())

    def lost(self, count: int) -> bytes:
        """Return the record that admits that `count` events could not be kept."""
        return self._seal("lost", {**_now(), "count": count})

    def stop(self) -> bytes:
        """Return the closing record: nothing follows, and nothing was cut off."""
        return self._seal("stop", _now())

    def _seal(self, kind: str, facts: Record) -> bytes:
        place = {"kind": kind, "chain": self.id, "seq": self.seq, "prev": self.head}
        body = _encode({**place, **self._origin, **facts})[:-1]
        self.head = sha256_of(body, self._key)
        self.seq += 1
        return b'%b,"hash":"%b"}\n' % (body, self.head.encode())


def read_record(line: bytes, key: bytes | None = None) -> Record:
    """Return the record of one line, checked against its own hash.

    Raises:
        BadRecord: it was changed, or is no record.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadRecord("is not a whole record")
    body, stated = match[1], match[2].decode()
    if not hmac.compare_digest(sha256_of(body, key), stated):
        raise BadRecord("was changed: its hash is not that of its content")
    return _parsed(body, stated)


def peek_record(line: bytes) -> Record:
    """Return the record of one line without checking its hash.

    Raises:
        BadRecord: it is no record.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise BadRecord("is not a whole record")
    return _parsed(match[1], match[2].decode())


def _now() -> Record:
    return {"time": timestamp(datetime.now(UTC))}


def _encode(record: Record) -> bytes:
    try:
        return to_json(record)  # a quarter of the time
    except ValueError:  # half a surrogate pair in a name that a caller chose
        return _escaped(record).encode()


def _parsed(body: bytes, stated: str) -> Record:
    try:
        record: Record = json.loads(body + b"}")
    except ValueError:
        raise BadRecord("is not JSON") from None
    return {**record, "hash": stated}
