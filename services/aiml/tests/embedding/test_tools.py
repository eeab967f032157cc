"""What a model sees of embeddings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.client import CallToolResult
from fastmcp.exceptions import ToolError
from mcp_types import TextContent

from fleet_aiml.testing import TEST_MODEL


def rows(result: CallToolResult) -> list[list[Any]]:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return list(json.loads(content.text)["rows"])


async def test_vectors_travel_once_in_the_order_of_the_texts(client: Client[Any]) -> None:
    result = await client.call_tool("embed_texts", {"texts": ["a b c", "a"]})
    assert [tokens for tokens, _ in rows(result)] == [3, 1]
    assert all(len(vector) == TEST_MODEL.dimension for _, vector in rows(result))
    assert result.structured_content is not None
    assert result.structured_content["model"] == "words"
    assert result.structured_content["row_count"] == 2
    assert "rows" not in result.structured_content


async def test_kind_and_normalize_are_understood(client: Client[Any]) -> None:
    asked = {"texts": ["why"], "kind": "query", "normalize": False}
    result = await client.call_tool("embed_texts", asked)
    assert rows(result)[0][0] == 2


@pytest.mark.parametrize(
    "wrong", [{"texts": []}, {"texts": ["x"] * 129}, {"texts": [""]}, {"texts": ["x"], "kind": "q"}]
)
async def test_wrong_arguments_are_refused(client: Client[Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match=r"^invalid_input"):
        await client.call_tool("embed_texts", wrong)
