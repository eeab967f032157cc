"""What a change of records needs of the store: the port between the CRM's rules and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from fleet_common.idempotency import Records
from fleet_data.crm.models import FieldDef, ObjectDef, Stored, Write
from fleet_data.crm.properties import Definition


class Transaction(Protocol):
    """Changes that happen together or not at all."""

    @property
    def records(self) -> Records:
        """Return where idempotency keys are kept."""

    async def properties(self, name: str) -> Sequence[Definition]:
        """Return the custom properties of an object."""

    async def load(
        self, of: ObjectDef, field: FieldDef, values: Sequence[str]
    ) -> Mapping[str, Stored]:
        """Return and lock the live records whose field is among `values`, by that value."""

    async def write(self, of: ObjectDef, writes: Sequence[Write]) -> Mapping[UUID, int]:
        """Insert and update records and return their new versions by id."""

    async def delete(self, of: ObjectDef, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        """Delete records that `load` returned, softly, and return their last versions by id."""

    def attempt(self) -> AbstractAsyncContextManager[None]:
        """Undo what the block did when it raises, and only that."""
