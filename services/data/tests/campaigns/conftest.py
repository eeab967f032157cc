"""People in a segment, and the whole service with a mailbox, as a client that says yes sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleet_data.claims import Caller
from fleet_data.pool import Database

SEGMENT = "00000000-0000-7000-8000-00000000000a"
PEOPLE = """
INSERT INTO store.contacts (tenant, id, first_name, last_name, email, lifecycle, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'Person' || n, 'X', 'p' || n || '@example.org', 'lead', 't', 't'
FROM generate_series(1, $1) n
"""
AROUND = """
UPDATE store.contacts SET first_name = NULL WHERE email = 'p1@example.org';
INSERT INTO store.consents (tenant, id, address, channel, purpose, state, decided_at, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), email, 'email', 'marketing', 'granted', now(), 't', 't' FROM store.contacts;
INSERT INTO store.contacts (tenant, id, last_name, email, lifecycle, created_by, updated_by) VALUES
    ('demo', gen_random_uuid(), 'NoConsent', 'no-consent@example.org', 'lead', 't', 't'),
    ('demo', gen_random_uuid(), 'NoAddress', NULL, 'lead', 't', 't');
INSERT INTO store.segments (tenant, id, name, object, kind, filter, created_by, updated_by)
VALUES ('demo', '00000000-0000-7000-8000-00000000000a', 'Everybody', 'contact', 'filter',
    '{"field":"lifecycle","value":"lead"}', 't', 't');
"""


@pytest.fixture
def people(database: Database, demo: Caller) -> Callable[[int], Any]:
    """Fills the segment: `await people(10)` with that many who may be written to, and two who may not."""

    async def fill(count: int) -> None:
        async with database.writing(demo) as connection:
            await connection.execute(PEOPLE, count)
            await connection.execute(AROUND)

    return fill
