"""Fleet keys: shown once, stored only as SHA-256, read from one JSON file that may change at any time.

A key reads `fleet_<id>_<secret>`: the id finds the record without a scan, the secret carries 256 random bits,
so a plain SHA-256 is enough (NIST SP 800-63B §5.1.2.2 asks for slow hashes only where secrets can be guessed).
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from fleet_common.auth.principal import Principal
from fleet_common.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from fleet_common.policy import Policy

log = structlog.get_logger()

PREFIX = "fleet_"
_RECHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored about a key; never the key."""

    id: str
    name: str
    sha256: str
    tenant: str
    roles: tuple[str, ...]
    created: str
    expires: str | None = None
    revoked: str | None = None
    rotated: str | None = None
    old_sha256: str | None = None
    old_until: str | None = None

    @property
    def prefix(self) -> str:
        """Return how the key begins, enough to recognise it and too little to use it."""
        return f"{PREFIX}{self.id}"

    def matches(self, digest: str, now: datetime) -> bool:
        """Return whether a key with this SHA-256 is this one, in its form before the last rotation too."""
        is_current = hmac.compare_digest(self.sha256, digest)
        if self.old_until is None:
            return is_current
        is_old = hmac.compare_digest(self.old_sha256 or "", digest)
        return is_current or (is_old and now < datetime.fromisoformat(self.old_until))

    def is_active(self, now: datetime) -> bool:
        """Return whether the key opens anything at `now`."""
        return self.revoked is None and (
            self.expires is None or now < datetime.fromisoformat(self.expires)
        )

    def principal(self) -> Principal:
        """Return the caller this key stands for."""
        return Principal(
            subject=f"key:{self.id}",
            tenant=self.tenant,
            roles=frozenset(self.roles),
            kind="key",
        )


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. `text` is shown once and cannot be had again."""

    record: KeyRecord
    text: str


class KeyFile:
    """The fleet keys in one JSON file, mode 0600.

    Reads follow changes of the file within a second, so a revoked key stops working everywhere without a
    restart. A file that is being replaced or is damaged or out of reach keeps the last good records.
    """

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._checked_at = -_RECHECK_S
        self._was_read = False
        self._reading = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._records: dict[str, KeyRecord] = {}
        self._is_unreadable = False

    def create(
        self,
        *,
        name: str,
        roles: Sequence[str],
        tenant: str,
        expires: datetime | None = None,
        policy: Policy | None = None,
    ) -> NewKey:
        """Add a key whose roles `policy` knows, by default the built-in one; only its hash is stored.

        Raises:
            InvalidInput: a role is unknown.
        """
        # Imported here: whoever only reads keys, as the fleet command at each start, is spared 0.3 s.
        from fleet_common.policy import BUILT_IN  # noqa: PLC0415

        known = (policy or BUILT_IN).roles
        unknown = sorted(set(roles) - set(known))
        if unknown or not roles:
            raise InvalidInput(
                f"unknown role {', '.join(unknown) or '(none given)'}",
                hint=f"Roles are: {', '.join(known)}",
            )
        key_id = secrets.token_hex(4)
        text = _new_text(key_id)
        record = KeyRecord(
            id=key_id,
            name=name,
            sha256=_digest(text),
            tenant=tenant,
            roles=tuple(roles),
            created=_stored(datetime.now(UTC)),
            expires=_stored(expires) if expires else None,
        )
        with self._locked() as records:
            records[key_id] = record
        return NewKey(record, text)

    def list(self) -> list[KeyRecord]:
        """Return every record, oldest first."""
        return sorted(self._read().values(), key=lambda record: record.created)

    def revoke(self, key_id: str) -> KeyRecord:
        """Mark the key with this id as revoked and return its record.

        Raises:
            NotFound: there is no such key.
        """
        with self._locked() as records:
            record = _known(records, key_id)
            now = _stored(datetime.now(UTC))
            records[record.id] = replace(record, revoked=record.revoked or now)
            return records[record.id]

    def rotate(self, key_id: str, *, overlap: timedelta, expires: datetime | None = None) -> NewKey:
        """Give the key with this id a new secret and return it; the old one works on for `overlap`.

        Name, tenant and roles stay, and so does the expiry unless `expires` is given. A secret that a rotation
        before left working ends at once.

        Raises:
            NotFound: there is no such key.
            InvalidInput: it is revoked or has expired.
        """
        now = datetime.now(UTC)
        with self._locked() as records:
            record = _known(records, key_id)
            if not record.is_active(now):
                raise InvalidInput(f"key {record.id} opens nothing any more", hint="Make a new one")
            text = _new_text(record.id)
            fresh = replace(
                record,
                sha256=_digest(text),
                rotated=_stored(now),
                old_sha256=record.sha256,
                old_until=_stored(now + overlap),
                expires=_stored(expires) if expires else record.expires,
            )
            records[record.id] = fresh
        return NewKey(fresh, text)

    def lookup(self, text: str) -> KeyRecord | None:
        """Return the active record of the key `text`, or None; may read the file."""
        if self.is_stale:
            self.refresh()
        return self.find(text)

    def find(self, text: str) -> KeyRecord | None:
        """Return the active record of the key `text` among those read last, or None; never blocks."""
        record, now = self._records.get(id_of(text)), datetime.now(UTC)
        if record is None or not record.matches(_digest(text), now):
            return None
        return record if record.is_active(now) else None

    @property
    def is_stale(self) -> bool:
        """Whether the file was last looked at a second ago or longer."""
        return self._monotonic() - self._checked_at >= _RECHECK_S

    def refresh(self) -> None:
        """Look whether the file changed and read it again if so; blocks.

        Those who come while it is read for the first time wait for it: to know nothing yet would turn valid keys away.
        Later ones go on with what is known.
        """
        with self._reading:
            if not self.is_stale:
                return
            if self._was_read:
                self._checked_at = self._monotonic()
            self._reload_if_changed()
            self._was_read, self._checked_at = True, self._monotonic()

    def _reload_if_changed(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
            if stamp != self._stamp:
                self._records = self._read()
        except FileNotFoundError:
            self._records, stamp = {}, None
        except (InvalidInput, OSError) as exc:
            # Damaged, half-copied or out of reach: the last good records stay in force.
            if not self._is_unreadable:
                log.warning("keys_unreadable", path=str(self._path), error=type(exc).__name__)
            self._is_unreadable = True
            return
        self._stamp, self._is_unreadable = stamp, False

    def _read(self) -> dict[str, KeyRecord]:
        if not self._path.exists():
            return {}
        try:
            stored: dict[str, Any] = json.loads(self._path.read_text("utf-8"))
            rows = [{**row, "roles": tuple(row["roles"])} for row in stored["keys"]]
            return {row["id"]: KeyRecord(**row) for row in rows}
        except (ValueError, TypeError, KeyError) as exc:
            raise InvalidInput(
                f"{self._path} is damaged",
                hint="Restore it, or remove it and make new keys",
            ) from exc

    @contextmanager
    def _locked(self) -> Iterator[dict[str, KeyRecord]]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = self._path.with_suffix(".lock")
        with os.fdopen(os.open(lock, os.O_CREAT | os.O_RDWR, 0o600), "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            records = self._read()
            yield records
            self._write(records)

    def _write(self, records: dict[str, KeyRecord]) -> None:
        text = json.dumps({"version": 1, "keys": [asdict(r) for r in records.values()]}, indent=2)
        fresh = self._path.with_suffix(".new")
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.replace(self._path)
        self._checked_at = -_RECHECK_S


def id_of(text: str) -> str:
    """Return the id in a key, in its prefix, or in an id itself."""
    return text.removeprefix(PREFIX).partition("_")[0]


def _known(records: Mapping[str, KeyRecord], key_id: str) -> KeyRecord:
    record = records.get(id_of(key_id))
    if record is None:
        raise NotFound("key", key_id, hint="`fleet key list` shows the ids")
    return record


def _new_text(key_id: str) -> str:
    return f"{PREFIX}{key_id}_{secrets.token_urlsafe(32)}"


def _stored(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
