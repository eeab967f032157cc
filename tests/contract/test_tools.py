"""What a model may rely on in every tool of every service."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from fastmcp import FastMCP
from fastmcp.tools import Tool

from fleet_common.approvals.planning import planner_of
from fleet_common.mcp import Service, params
from fleet_common.mcp.declared import DATA_META

# Calls another tool, whose own answer and plan count.
PASSES_ON = {"fleet_call_tool"}
SHARED = {
    "limit": params.Limit,
    "cursor": params.Cursor,
    "fields": params.Fields,
    "dry_run": params.DryRun,
    "idempotency_key": params.IdempotencyKey,
}
DOMAINS = {
    "gateway": r"fleet",
    "data": r"crm|db|lead|segment|campaign|mail|import|export|connector|cache",
    "devops": r"gh|ci|k8s|deploy|mon|file",
    "aiml": r"rag|embed|llm|voice|model",
}
NAMES = sorted(each.name for each in Path(__file__).parents[2].glob("services/*/") if each.is_dir())
SERVICES: dict[str, Service[Any, Any]] = {
    name: import_module(f"fleet_{name}.server").SERVICE for name in NAMES
}
FUNCTIONS = [(name, fn) for name, service in SERVICES.items() for fn in service.tools]


@pytest.fixture(scope="module")
def listed() -> dict[str, Tool]:
    server: FastMCP[Any] = FastMCP("contract")
    tools = [server.add_tool(fn) for _, fn in FUNCTIONS]
    return {tool.name: tool for tool in tools}


def tool_name(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("service", "fn"), FUNCTIONS, ids=tool_name)
class TestEveryTool:
    def test_name_says_which_domain_it_is_of(
        self, service: str, fn: Callable[..., Any], listed: dict[str, Tool]
    ) -> None:
        assert re.fullmatch(rf"(?:{DOMAINS[service]})_[a-z0-9_]+", tool_name(fn))
        assert tool_name(fn) in listed

    def test_states_all_four_hints(
        self, service: str, fn: Callable[..., Any], listed: dict[str, Tool]
    ) -> None:
        hints = listed[tool_name(fn)].annotations
        assert hints is not None
        told = (
            hints.read_only_hint,
            hints.destructive_hint,
            hints.idempotent_hint,
            hints.open_world_hint,
        )
        assert None not in told

    def test_says_what_it_touches(
        self, service: str, fn: Callable[..., Any], listed: dict[str, Tool]
    ) -> None:
        declared = (listed[tool_name(fn)].meta or {}).get(DATA_META)
        assert declared is not None, "add meta=touches(…)"
        assert set(declared) <= {"untrusted", "private", "public"}

    def test_describes_itself_and_every_argument(
        self, service: str, fn: Callable[..., Any], listed: dict[str, Tool]
    ) -> None:
        tool = listed[tool_name(fn)]
        assert tool.title
        assert len(tool.description or "") > 40
        for argument, schema in tool.parameters.get("properties", {}).items():
            assert schema.get("description"), argument

    def test_has_an_output_schema(
        self, service: str, fn: Callable[..., Any], listed: dict[str, Tool]
    ) -> None:
        schema = listed[tool_name(fn)].output_schema
        assert schema is not None
        assert schema.get("properties") or tool_name(fn) in PASSES_ON

    def test_shares_the_meaning_of_common_arguments(
        self, service: str, fn: Callable[..., Any], listed: dict[str, Tool]
    ) -> None:
        hints = get_type_hints(fn, include_extras=True)
        for argument in SHARED.keys() & hints.keys():
            assert hints[argument] == SHARED[argument], argument

    def test_says_what_it_would_destroy_before_it_does(
        self, service: str, fn: Callable[..., Any], listed: dict[str, Tool]
    ) -> None:
        hints = listed[tool_name(fn)].annotations
        assert hints is not None
        is_own = tool_name(fn) not in PASSES_ON
        assert not (hints.destructive_hint and is_own) or planner_of(fn) is not None

    def test_takes_no_tenant_from_the_caller(
        self, service: str, fn: Callable[..., Any], listed: dict[str, Tool]
    ) -> None:
        assert (
            not {"tenant", "principal", "caller"}
            & listed[tool_name(fn)].parameters["properties"].keys()
        )


def test_names_are_unique_across_services(listed: dict[str, Tool]) -> None:
    assert len(listed) == len(FUNCTIONS)


@pytest.mark.parametrize("service", SERVICES.values(), ids=lambda each: each.name)
def test_instructions_fit_what_clients_read(service: Service[Any, Any]) -> None:
    assert 40 < len(service.instructions) <= 512
