"""What one process needs to give and to take approvals."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from fleet_common.approvals.desk import Desk
from fleet_common.approvals.seals import LocalNonces, RedisNonces, Seals
from fleet_common.redis import Redis
from fleet_common.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class Approvals:
    """The process's seals and its desk.

    Attributes:
        key: seals what a client carries from one call to the next; the same in every replica.
        desk: where asks wait for a person; None without Redis, since nobody else could see them.
        url: where people approve, without the id; None when they only have `fleet approve`.
    """

    key: bytes = field(repr=False)
    seals: Seals
    desk: Desk | None
    url: str | None

    @classmethod
    def create(cls, settings: ServiceSettings, redis: Redis | None) -> Approvals:
        """Return the approvals of a process; no input or output.

        Without Redis the key is the process's own, whatever the settings say: what it seals can then be used
        here only, where it is known whether it was used.
        """
        named = (
            settings.approvals_key.get_secret_value().encode() if settings.approvals_key else b""
        )
        key = named if named and redis is not None else secrets.token_bytes(32)
        spent = LocalNonces() if redis is None else RedisNonces(redis)
        desk = None if redis is None else Desk(redis)
        return cls(key, Seals(key, spent), desk, settings.approve_url)
