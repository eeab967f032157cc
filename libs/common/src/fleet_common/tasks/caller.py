"""Who asked for a task: kept in Redis while the task waits, and asked again before it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pydantic import TypeAdapter

from fleet_common.approvals import Plan
from fleet_common.auth import Principal
from fleet_common.auth.keys import KeyFile
from fleet_common.auth.oauth import OAuth

_KEY = "key:"


@dataclass(frozen=True, slots=True)
class TaskCaller:
    """A task's owner, the request that made it and the plan that was approved: never a credential.

    Attributes:
        asked_at: when, in Unix seconds.
    """

    principal: Principal
    asked_at: float
    request_id: str | None = None
    traceparent: str | None = None
    plan: Plan | None = None

    def to_json(self) -> bytes:
        """Return the form that is stored."""
        return _STORED.dump_json(self)

    @classmethod
    def of_json(cls, text: bytes) -> TaskCaller:
        """Return what `to_json` wrote."""
        return _STORED.validate_json(text)


_STORED = TypeAdapter(TaskCaller)


def still_allowed(caller: TaskCaller, keys: KeyFile | None, oauth: OAuth | None) -> Principal:
    """Return the caller with the roles it has now; one that was revoked has none, so that the policy refuses it.

    Reads a file. A caller that came through the gateway may hold a key that only the gateway knows: a key that is
    unknown here counts as revoked only when it was shown to this service itself.

    Raises:
        Unavailable: it cannot be told, because the list of revoked tokens was never read.
    """
    asked = caller.principal
    if oauth is not None and oauth.was_revoked(asked, caller.asked_at):
        return replace(asked, roles=frozenset())
    if keys is None or not asked.subject.startswith(_KEY):
        return asked
    key_id = asked.subject.removeprefix(_KEY)
    record = next((row for row in keys.list() if row.id == key_id), None)
    if record is None and asked.kind == "internal":
        return asked
    if record is None or not record.is_active(datetime.now(UTC)):
        return replace(asked, roles=frozenset())
    return replace(asked, roles=asked.roles & set(record.roles))
