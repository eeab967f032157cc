"""Attacks on a database with two tenants, judged by what they did and not by what they were answered.

`attacked` plants a note for the attacker and secrets for another tenant, and yields a `Witness`. Its `suffer` sends
all strings of a class through whatever door a feature has, and returns what they did that nobody may do: nothing, if
all is well.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Literal
from uuid import uuid4

import asyncpg

from fleet_common.errors import FleetError
from fleet_data.claims import Caller
from fleet_data.pool import Database
from fleet_data.query.repository import Readable
from fleet_data.schema.functions import REVOKED, VIEWS

StoppedBy = Literal["statement", "wrap", "role", "revoke", "time", "size", "nothing"]
Door = Callable[[str], Awaitable[object]]
"""Runs SQL as the attacker and returns all that the attacker gets to see."""

ATTACKER, VICTIM = Caller("demo", "key:attacker"), Caller("other", "key:victim")
SECRET = "The other tenant's secret"  # noqa: S105 - a marker
TIME_S = (
    10.0  # statements have a fraction of a second; each of the burning ones would take a minute
)
SHOWN_CHARS = 2_000_000  # an answer is cut at 256 kB; an export that is not must still not flood
_MARKERS = (SECRET[4:], "victim@", "root:x:", "SCRAM-SHA-256$")
_CHANNEL = "fleet_attack"


@dataclass(frozen=True, slots=True)
class Attack:
    """One string, its class, and what stops it on a database that a superuser migrated."""

    kind: str
    stopped_by: StoppedBy
    sql: str


def _packaged() -> tuple[Attack, ...]:
    text = files("fleet_data.testing").joinpath("attacks.toml").read_text("utf-8")
    return tuple(
        Attack(table["class"], table["stopped_by"], sql)
        for table in tomllib.loads(text)["attacks"]
        for sql in table["sql"]
    )


ATTACKS = _packaged()
# As PostgreSQL comes, and as it stays where whoever migrates is no superuser.
UNREVOKE = f"""
DO $$ DECLARE f regprocedure; BEGIN
    FOR f IN SELECT oid::regprocedure FROM pg_proc WHERE proname = ANY('{{{",".join(REVOKED)}}}')
        AND pronamespace = 'pg_catalog'::regnamespace AND proname NOT IN ('lo_import', 'lo_export')
        AND proname NOT LIKE 'pg\\_control%'
    LOOP EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', f); END LOOP;
END $$;
GRANT SELECT ON {", ".join(VIEWS)} TO PUBLIC;
"""  # noqa: S608 - names of this package
"""Gives back to everybody what `migrate` takes from them as a superuser."""

CLASSES = tuple(dict.fromkeys(attack.kind for attack in ATTACKS))


@dataclass
class Witness:
    """Watches a database, the next caller's session on it, and the machine.

    Attributes:
        database: what the attacks go through; its pool has one connection.
        admin: the superuser's view.
        bystander: a session of the reader that somebody may try to end.
        heard: notifications that arrived.
        tolerated: what need not stop an attack here, besides nothing; its effects still count.
    """

    database: Readable
    admin: asyncpg.Connection[asyncpg.Record]
    bystander: asyncpg.Connection[asyncpg.Record]
    heard: list[str] = field(default_factory=list)
    tolerated: frozenset[StoppedBy] = frozenset()

    async def suffer(self, kind: str, door: Door) -> list[str]:
        """Send every attack of a class through `door` and return what went wrong."""
        await self._session()  # loads what the first caller loads
        state, session = await self._state(), await self._session()
        wrong = []
        for attack in ATTACKS:
            if attack.kind == kind:
                wrong += [f"{attack.sql!r} {what}" for what in await self._shown(attack, door)]
                if (now := await self._session()) != session:
                    wrong.append(f"{attack.sql!r} changed the next caller's session: {now}")
                    session = now
        if (now := await self._state()) != state:
            wrong.append(f"one of {kind} changed the database: {state} is now {now}")
        return wrong + self.heard

    async def _shown(self, attack: Attack, door: Door) -> list[str]:
        """Return what is wrong with the answer to one attack."""
        refused, began = False, time.monotonic()
        try:
            shown = str(await door(attack.sql))
        except FleetError as exc:
            refused, shown = True, str(exc)
        took = time.monotonic() - began
        foreign = shown.replace(attack.sql, "")
        wrong = [f"showed {marker!r}" for marker in _MARKERS if marker in foreign]
        if not refused and attack.stopped_by not in {"nothing", *self.tolerated}:
            wrong.append(f"was answered: {shown[:200]}")
        if took > TIME_S:
            wrong.append(f"took {took:.0f} s")
        if len(shown) > SHOWN_CHARS:
            wrong.append(f"answered {len(shown)} characters")
        return wrong

    async def _state(self) -> str:
        """Return everything in the database, and round it, that an attack could have changed."""
        row = await self.admin.fetchrow(_STATE, self.bystander.get_server_pid())
        return str(dict(row or {}))

    async def _session(self) -> str:
        """Return what the next caller finds."""
        async with self.database.reading(VICTIM) as connection:
            await connection.execute(_PATIENT)
            row = await connection.fetchrow(_SESSION)
        return str(dict(row or {}))


# The digests change with any row, relation, function, role or setting.
_STATE = """
SELECT
    (SELECT md5(string_agg(n::text, ',' ORDER BY id)) FROM store.notes n) AS notes,
    (SELECT md5(string_agg(c::text, ',' ORDER BY id)) FROM store.contacts c) AS contacts,
    (SELECT count(*) FROM store.change_log) AS changes,
    (SELECT last_value FROM store.change_log_id_seq) AS sequence,
    (SELECT md5(string_agg(concat(relname, relkind, relacl, relrowsecurity), ',' ORDER BY oid))
     FROM pg_class WHERE relnamespace::regnamespace::text NOT LIKE 'pg_toast%') AS relations,
    (SELECT md5(string_agg(concat(proname, proacl), ',' ORDER BY oid)) FROM pg_proc) AS functions,
    (SELECT md5(string_agg(r::text, ',' ORDER BY oid)) FROM pg_authid r
     WHERE rolname LIKE 'crm%' OR rolsuper) AS roles,
    (SELECT count(*) FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%') AS schemas,
    (SELECT count(*) FROM pg_extension) AS extensions,
    (SELECT count(*) FROM pg_largeobject_metadata) AS large_objects,
    (SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'fleet_attack') AS slots,
    (SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'fleet_attack') AS prepared,
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
        (SELECT oid FROM pg_database WHERE datname = current_database())) AS advisory_locks,
    (SELECT string_agg(state || ' ' || left(query, 120), ',') FROM pg_stat_activity
     WHERE datname = current_database() AND usename = 'crm_reader' AND state <> 'idle') AS busy_readers,
    (SELECT count(*) FROM pg_stat_activity WHERE pid = $1) AS bystanders,
    (SELECT size FROM pg_stat_file('/tmp/fleet-attack', true)) AS file
"""
# The limits are for attacks; a machine that they keep busy is slow to say what they left.
# A transaction's time cannot be made longer once it runs, only be waived.
_PATIENT = "SET LOCAL statement_timeout = '5s'; SET LOCAL transaction_timeout = 0"
# `random() = …` is what follows setseed(0.5).
_SESSION = """
SELECT
    current_user AS who, session_user AS login, (SELECT count(*) FROM crm.notes) AS notes,
    ARRAY(SELECT current_setting(s, true) FROM unnest(ARRAY['TimeZone', 'search_path', 'role', 'row_security',
        'transaction_read_only', 'default_transaction_read_only', 'application_name', 'work_mem', 'a.b',
        'lock_timeout', 'DateStyle', 'client_encoding']) s) AS settings,
    ext.show_limit() AS similarity,
    (SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE '\\_\\_asyncpg%') AS prepared,
    (SELECT count(*) FROM pg_cursors) AS cursors,
    (SELECT count(*) FROM pg_listening_channels()) AS channels,
    random() = 0.9851677175347999 AS is_seeded
"""


@asynccontextmanager
async def attacked(database: Readable, admin_url: str, reader_url: str) -> AsyncGenerator[Witness]:
    """Yield the witness of a database that `plant` was called for."""
    admin = await asyncpg.connect(admin_url, ssl=False)
    bystander = await asyncpg.connect(reader_url, ssl=False)
    try:
        witness = Witness(database, admin, bystander)
        await admin.add_listener(_CHANNEL, lambda *_: witness.heard.append("a notification came"))
        yield witness
    finally:
        await bystander.close()
        await admin.close()


async def plant(database: Database) -> None:
    """Give the attacker one note, and the victim a note and a contact with secrets."""
    for caller, body, name in ((ATTACKER, "Ours", "Ours"), (VICTIM, SECRET, SECRET)):
        async with database.writing(caller) as connection:
            await connection.execute(
                "INSERT INTO store.notes (tenant, id, body, created_by, updated_by) VALUES ($1, $2, $3, $4, $4)",
                *(caller.tenant, uuid4(), body, caller.subject),
            )
            await connection.execute(
                "INSERT INTO store.contacts (tenant, id, last_name, email, lifecycle, created_by, updated_by) "
                "VALUES ($1, $2, $3, $4, 'lead', $5, $5)",
                *(
                    caller.tenant,
                    uuid4(),
                    name,
                    f"{caller.subject[4:]}@{caller.tenant}.example",
                    caller.subject,
                ),
            )
