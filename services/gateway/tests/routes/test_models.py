"""The exported routes hold to the Gateway API's own schema and route as the gateway does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# It ships no types.
import jsonschema  # type: ignore[import-untyped]
import pytest

from fleet_gateway.routes.models import Backend, Placement, http_routes

# Cut from config/crd/standard/gateway.networking.k8s.io_httproutes.yaml of kubernetes-sigs/gateway-api (Apache-2.0):
# version v1, without descriptions and without what these routes do not use.
SCHEMA = json.loads((Path(__file__).parent / "httproute.schema.json").read_text())
GATEWAY = Backend("gateway", 8080)
PLACEMENT = Placement("fleet", "mcp-fleet", ("mcp.example.com",))


def routes(*backends: Backend) -> list[dict[str, Any]]:
    return list(http_routes(backends, GATEWAY, PLACEMENT))


def tools(count: int) -> tuple[tuple[str, str], ...]:
    return tuple(("tools/call", f"crm_{number:03}") for number in range(count))


@pytest.mark.parametrize("count", [0, 1, 64, 65, 128, 129, 300])
def test_however_many_tools_the_routes_are_valid_and_name_each_once(count: int) -> None:
    exported = routes(Backend("data", 8081, tools(count)))
    names = []
    for route in exported:
        jsonschema.validate(route, SCHEMA)
        matches = [match for rule in route["spec"]["rules"] for match in rule["matches"]]
        assert len(matches) <= 128
        names += [
            h["value"] for m in matches for h in m.get("headers", ()) if h["name"] == "Mcp-Name"
        ]
    assert sorted(names) == [name for _, name in tools(count)]
    assert len({route["metadata"]["name"] for route in exported}) == len(exported)


def owner(exported: list[dict[str, Any]], headers: dict[str, str]) -> str:
    """Return the backend that the Gateway API's precedence chooses: most header matches first."""
    candidates = [
        (len(match.get("headers", ())), rule["backendRefs"][0]["name"])
        for route in exported
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
        if all(headers.get(h["name"].lower()) == h["value"] for h in match.get("headers", ()))
    ]
    return str(max(candidates)[1])


def test_a_call_goes_to_its_owner_and_the_rest_to_the_gateway() -> None:
    exported = routes(
        Backend("data", 8081, (("tools/call", "crm_get"), ("prompts/get", "review"))),
        Backend("aiml", 8083, (("tools/call", "rag_search"),)),
    )
    modern = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}
    assert owner(exported, {**modern, "mcp-name": "crm_get"}) == "data"
    assert owner(exported, {**modern, "mcp-name": "rag_search"}) == "aiml"
    assert owner(exported, {**modern, "mcp-method": "prompts/get", "mcp-name": "review"}) == "data"
    assert owner(exported, {**modern, "mcp-name": "fleet_status"}) == "gateway"
    assert owner(exported, {**modern, "mcp-method": "tools/list"}) == "gateway"
    older = {**modern, "mcp-protocol-version": "2025-11-25", "mcp-name": "crm_get"}
    assert owner(exported, older) == "gateway"
