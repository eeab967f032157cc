from __future__ import annotations

from typing import Any

import pytest

from fleet_gateway.lists.models import row_of
from fleet_gateway.toolsets.ranking import ranked

DEFINITIONS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("crm_search", "Search contacts", "Find contacts, companies and deals by words.", {}),
    ("crm_deal_move", "Move a deal", "Move a deal to another stage of its pipeline.", {}),
    ("gh_list_prs", "List pull requests", "List the open pull requests of a repository.", {}),
    ("k8s_restart", "Restart", "Restart a deployment; pods come back one by one.", {}),
    (
        "mon_query",
        "Query metrics",
        "Run PromQL.",
        {"properties": {"promql": {}, "start": {}, "step": {}}},
    ),
    ("rag_search", "Search documents", "Find passages in the documents by meaning.", {}),
]
TOOLS = [
    row_of({"name": name, "title": title, "description": description, "inputSchema": schema})
    for name, title, description, schema in DEFINITIONS
]


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("search the documents for our holiday policy", "rag_search"),
        ("which contacts work at a company", "crm_search"),
        ("open pull request", "gh_list_prs"),
        ("restart pods", "k8s_restart"),
        ("move deals to the next stage", "crm_deal_move"),
        ("promql step", "mon_query"),
        ("crm_deal_move", "crm_deal_move"),
    ],
)
def test_the_tool_that_fits_comes_first(query: str, best: str) -> None:
    assert ranked(query, TOOLS)[0].key == best


def test_tools_that_share_no_word_are_left_out() -> None:
    assert ranked("xylophone", TOOLS) == []
    assert ranked("", TOOLS) == []
    assert ranked("anything", []) == []
    assert {tool.key for tool in ranked("search", TOOLS)} == {"crm_search", "rag_search"}
