from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError

from fleet_common.testing import admin
from fleet_data.settings import Settings

Connect = Callable[..., AbstractAsyncContextManager[Client[Any]]]


def body(result: Any) -> Any:
    return json.loads(result.content[0].text)


async def test_leads_are_scored_with_reasons_that_add_up(
    connect: Connect, seeded_url: str, make_settings: Callable[..., Settings]
) -> None:
    who = replace(admin(), tenant="demo")
    async with connect(who, make_settings(seeded_url)) as client:
        qualified = {"field": "status", "value": "qualified"}
        scored = body(await client.call_tool("lead_score", {"filter": qualified, "limit": 3}))
        assert scored["columns"] == ["id", "score", "probability", "logit", "reasons", "other"]
        for _, points, probability, logit, reasons, other in scored["rows"]:
            total = scored["base"] + sum(points for _, points in reasons) + other
            assert logit == pytest.approx(total, abs=1e-9)
            assert points == pytest.approx(100 * probability, abs=0.51)  # each is rounded
            assert len(reasons) == 5
        ids = [row[0] for row in scored["rows"]]
        plain = body(await client.call_tool("lead_score", {"ids": ids, "explain": False}))
        assert [row[:3] for row in scored["rows"]] == plain["rows"]
        info = body(await client.call_tool("lead_model", {}))
        assert (info["rows"], info["note"]) == ([], "the built-in model is in use")
        with pytest.raises(ToolError, match="either ids or filter"):
            await client.call_tool("lead_score", {})


async def test_too_little_to_learn_from_is_a_readable_error(connect: Connect) -> None:
    async with connect(replace(admin(), tenant="demo")) as client:
        with pytest.raises(ToolError, match=r"^conflict: training needs 30 leads .* there are 0"):
            await client.call_tool("lead_model", {"action": "train"})


async def test_writing_needs_more_than_reading_and_training_needs_an_admin(
    connect: Connect,
) -> None:
    viewer = replace(admin(), tenant="demo", roles=frozenset({"viewer"}))
    async with connect(viewer) as client:
        names = {tool.name for tool in await client.list_tools()}
        assert "lead_score" in names
        assert "lead_model" not in names
        condition = {"filter": {"field": "status", "value": "new"}}
        assert body(await client.call_tool("lead_score", condition))["rows"] == []
        with pytest.raises(ToolError, match="permission_denied: write needs the scope data:write"):
            await client.call_tool("lead_score", {**condition, "write": True})
