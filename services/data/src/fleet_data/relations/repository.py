"""The SQL of relations: links, what points at a record, and pairs that share a key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from fleet_data.claims import Caller
from fleet_data.crm.changing import ChangeSet
from fleet_data.crm.models import FieldDef, ObjectDef
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.repository.store import CrmTransaction
from fleet_data.ids import uuid7
from fleet_data.pool import Database
from fleet_data.relations.models import Link, Pair

_LIKE = 0.3  # similarity below which a shared key is taken for chance
_CROWD = 50  # a key that more records share, as a switchboard's number, says nothing
_DIGITS = "right(nullif(regexp_replace(phone, '\\D', '', 'g'), ''), 9)"
_NAME = "nullif(lower(regexp_replace({0}, '[^[:alnum:]]', '', 'g')), '')"

# What two records share when they may be the same: name of the key → (fields it needs, expression). Few records
# share a key, so the names of all pairs are never compared.
_KEYS: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "contact": {
        "phone": (("phone",), _DIGITS),
        "name and company": (
            ("last_name", "company_id"),
            f"{_NAME.format('last_name')} || ' ' || company_id",
        ),
        "name and mail domain": (
            ("last_name", "email"),
            f"{_NAME.format('last_name')} || ' ' || split_part(email, '@', 2)",
        ),
    },
    "company": {
        "phone": (("phone",), _DIGITS),
        "name": (("name",), f"left({_NAME.format('name')}, 7)"),
        "website": (("website",), "substring(lower(website) from '://(?:www\\.)?([^/:]+)')"),
    },
    "lead": {
        "phone": (("phone",), _DIGITS),
        "name": (("name",), _NAME.format("name")),
        "name and company": (
            ("name", "company_name"),
            f"left({_NAME.format('name')}, 4) || ' ' || {_NAME.format('company_name')}",
        ),
    },
}
_LABEL = {"contact": "concat_ws(' ', first_name, last_name)", "company": "name", "lead": "name"}


class RelationsRepository:
    """Links and likenesses in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pairs(self, caller: Caller, of: ObjectDef, *, limit: int) -> list[Pair]:
        """Return pairs of records that share a key and whose names are alike, the likest first."""
        keys = {
            name: key
            for name, (needs, key) in _KEYS[of.name].items()
            if not any(of.fields[need].masked for need in needs)
        }
        if not keys:
            return []
        values = ", ".join(f"('{name}', {key})" for name, key in keys.items())
        async with self._database.reading(caller) as connection:
            rows = await connection.fetch(
                f"""
                WITH keyed AS (
                    SELECT c.id, {_LABEL[of.name]} AS label, k.what, k.key,
                        count(*) OVER (PARTITION BY k.what, k.key) AS crowd
                    FROM crm.{of.table} c CROSS JOIN LATERAL (VALUES {values}) AS k (what, key)
                    WHERE k.key IS NOT NULL
                )
                SELECT a.id AS id, b.id AS other_id, min(a.label) AS label, min(b.label) AS other_label,
                    round(max(similarity(a.label, b.label))::numeric, 2)::float8 AS likeness,
                    array_agg(DISTINCT a.what) AS shared
                FROM keyed a JOIN keyed b ON a.what = b.what AND a.key = b.key AND a.id < b.id
                WHERE a.crowd BETWEEN 2 AND {_CROWD}
                GROUP BY a.id, b.id HAVING max(similarity(a.label, b.label)) >= {_LIKE}
                ORDER BY count(DISTINCT a.what) DESC, likeness DESC, a.id LIMIT $1
                """,  # noqa: S608 - names of the registry
                limit,
            )
        return [
            Pair(
                (row["id"], row["other_id"]),
                (row["label"], row["other_label"]),
                row["likeness"],
                row["shared"],
            )
            for row in rows
        ]

    @asynccontextmanager
    async def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AsyncGenerator[RelationsTransaction]:
        """Yield a transaction that is kept when `keep` is true and nothing is raised."""
        settings = change_set.settings
        async with self._database.writing(caller, settings=settings, keep=keep) as connection:
            yield RelationsTransaction(connection, caller)


class RelationsTransaction(CrmTransaction):
    """Changes of records and of what points at them."""

    async def link(self, link: Link) -> bool:
        """Return whether a link was made; False when it was there."""
        made = await self._connection.fetchval(
            "INSERT INTO store.links "
            "(tenant, created_by, updated_by, id, from_object, from_id, type, to_object, to_id) "
            "VALUES ($1, $2, $2, $3::text::uuid, $4, $5::text::uuid, $6, $7, $8::text::uuid) "
            "ON CONFLICT DO NOTHING RETURNING true",
            self._caller.tenant,
            self._caller.subject,
            str(uuid7()),
            link.from_object,
            str(link.from_id),
            link.type,
            link.to_object,
            str(link.to_id),
        )
        return made is True

    async def unlink(self, link: Link) -> bool:
        """Return whether a link was removed; False when there was none."""
        removed = await self._connection.fetchval(
            "UPDATE store.links SET deleted_at = now(), updated_by = $1 WHERE deleted_at IS NULL "
            "AND from_id = $2::text::uuid AND type = $3 AND to_id = $4::text::uuid RETURNING true",
            self._caller.subject,
            str(link.from_id),
            link.type,
            str(link.to_id),
        )
        return removed is True

    async def repoint(
        self, name: str, field: FieldDef, losers: Collection[UUID], winner: UUID
    ) -> int:
        """Let the records of `name` whose `field` is a loser point at the winner; return how many."""
        status = await self._connection.execute(
            f"UPDATE store.{OBJECTS[name].table} SET {field.name} = $1::text::uuid, updated_by = $2 "  # noqa: S608 - names of the registry
            f"WHERE deleted_at IS NULL AND {field.name} = ANY($3::text[]::uuid[])",
            str(winner),
            self._caller.subject,
            [str(loser) for loser in losers],
        )
        return int(status.split()[-1])

    async def repoint_links(self, losers: Collection[UUID], winner: UUID) -> int:
        """Let links from and to losers be the winner's; those that the winner has already go. Return how many moved."""
        args = (str(winner), self._caller.subject, [str(loser) for loser in losers])
        await self._connection.execute(_DROP_DOUBLE_LINKS, *args)
        return int((await self._connection.execute(_MOVE_LINKS, *args)).split()[-1])


# What a link would be after the merge; of links that would be the same the oldest stays, and none leads to itself.
_DROP_DOUBLE_LINKS = """
WITH moved AS (
    SELECT id, from_id = ANY($3::text[]::uuid[]) OR to_id = ANY($3::text[]::uuid[]) AS moves, type,
        CASE WHEN from_id = ANY($3::text[]::uuid[]) THEN $1::text::uuid ELSE from_id END AS from_id,
        CASE WHEN to_id = ANY($3::text[]::uuid[]) THEN $1::text::uuid ELSE to_id END AS to_id
    FROM store.links WHERE deleted_at IS NULL
        AND (from_id = ANY($3::text[]::uuid[] || $1::text::uuid) OR to_id = ANY($3::text[]::uuid[] || $1::text::uuid))
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY from_id, type, to_id ORDER BY moves, id) AS n FROM moved
)
UPDATE store.links l SET deleted_at = now(), updated_by = $2
FROM ranked r WHERE r.id = l.id AND r.moves AND (r.n > 1 OR r.from_id = r.to_id)
"""
_MOVE_LINKS = """
UPDATE store.links SET updated_by = $2,
    from_id = CASE WHEN from_id = ANY($3::text[]::uuid[]) THEN $1::text::uuid ELSE from_id END,
    to_id = CASE WHEN to_id = ANY($3::text[]::uuid[]) THEN $1::text::uuid ELSE to_id END
WHERE deleted_at IS NULL AND (from_id = ANY($3::text[]::uuid[]) OR to_id = ANY($3::text[]::uuid[]))
"""


def references(name: str) -> Sequence[tuple[str, FieldDef]]:
    """Return the fields that point at records of an object, each with the object that has it."""
    return [
        (of.name, field)
        for of in OBJECTS.values()
        for field in of.fields.values()
        if field.refers_to == name
    ]
