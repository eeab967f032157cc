"""Segments, consents and suppressions are records like any other."""

from __future__ import annotations

import json
from typing import Any

from fleet_data.claims import Caller
from fleet_data.crm.service import Crm


async def test_segments_consents_and_suppressions_are_written_and_found(
    crm: Crm, demo: Caller, other: Caller
) -> None:
    condition = {
        "all": [
            {"field": "country", "value": "France"},
            {"not": {"field": "title", "value": "CEO"}},
        ]
    }
    segments: list[dict[str, Any]] = [
        {"name": "France", "filter": condition},
        {"name": "Broken", "filter": {"field": "country", "op": "like"}},
        {"name": "List", "kind": "static"},
        {"name": "Neither", "kind": "filter"},
    ]
    written = await crm.upsert(demo, "segment", segments, match_on="name")
    assert [row.outcome for row in written.rows] == ["created", "error", "created", "error"]
    assert "a filter expected, as crm_search takes it" in str(written.rows[1].detail)
    again = await crm.upsert(demo, "segment", segments[:1], match_on="name")
    assert again.rows[0].outcome == "unchanged"
    page = await crm.search(demo, "segment", fields=["name", "filter"], sort="name")
    assert json.loads(page.rows[0][1])["all"][1] == {
        "not": {"field": "title", "op": "eq", "value": "CEO"}
    }
    blocked = [{"address": "Ada@Example.com", "reason": "complained"}]
    assert (await crm.upsert(demo, "suppression", blocked)).rows[0].outcome == "created"
    agreed = [
        {
            "address": "ada@example.com",
            "state": "granted",
            "decided_at": "2026-11-01",
        }
    ]
    assert (await crm.upsert(demo, "consent", agreed)).rows[0].outcome == "created"
    found = await crm.search(demo, "suppression", fields=["address"])
    assert found.rows == [("ada@example.com",)]
    for name in ("segment", "consent", "suppression"):
        assert (await crm.search(other, name)).rows == []
