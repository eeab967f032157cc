from __future__ import annotations

from typing import Any

import pytest

from fleet_gateway.balancing.models import Address
from fleet_gateway.cluster.models import Found, found_in

HTTP = {"name": "http", "port": 80}
POD = {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "zone": "a"}
AT_POD = Address("http://10.0.0.1:8081", "crm:80")


def service(
    name: str = "crm",
    fleet_name: str = "data",
    ports: tuple[dict[str, Any], ...] = (HTTP,),
    labels: dict[str, str] | None = None,
    **notes: str,
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {"mcp-fleet.dev/service": fleet_name, **(labels or {})},
            "annotations": {
                f"mcp-fleet.dev/{key.replace('_', '-')}": text for key, text in notes.items()
            },
        },
        "spec": {"ports": list(ports)},
    }


def pods(
    *endpoints: dict[str, Any],
    of: str = "crm",
    family: str = "IPv4",
    ports: tuple[dict[str, Any], ...] = ({"name": "http", "port": 8081},),
) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{of}-x", "labels": {"kubernetes.io/service-name": of}},
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": list(ports),
    }


def only(services: list[dict[str, Any]], slices: list[dict[str, Any]]) -> Found:
    found = found_in(services, slices, "team")
    assert list(found) == ["data"]
    return found["data"]


@pytest.mark.parametrize(
    ("endpoint", "is_used"),
    [
        (POD, True),
        ({"addresses": ["10.0.0.1"]}, True),  # no word about it means ready
        ({"addresses": ["10.0.0.1"], "conditions": {"ready": None}}, True),
        ({"addresses": ["10.0.0.1"], "conditions": {"ready": False, "serving": True}}, False),
    ],
)
def test_a_pod_is_an_endpoint_while_it_is_ready(endpoint: dict[str, Any], is_used: bool) -> None:
    assert bool(only([service()], [pods(endpoint)]).endpoints) is is_used


def test_each_ready_pod_is_known_with_its_zone_and_named_by_its_service() -> None:
    other = {"addresses": ["10.0.0.2", "10.9.9.9"], "zone": "b"}
    found = only([service()], [pods(POD), pods(other), pods(POD, of="unlabelled")])
    assert found.endpoints == {AT_POD: "a", Address("http://10.0.0.2:8081", "crm:80"): "b"}


def test_annotations_and_standard_labels_describe_the_service() -> None:
    tls = {"name": "mcp", "port": 443, "appProtocol": "https"}
    one = service(
        ports=(HTTP, tls),
        labels={"app.kubernetes.io/version": "1.2.3"},
        port="mcp",
        path="/v2/mcp",
        fallback_for="llm_*, rag_*,",
    )
    slices = [
        pods(POD, ports=({"name": "http", "port": 8081}, {"name": "mcp", "port": 8443})),
        pods({"addresses": ["fd00::1"]}, family="IPv6"),
    ]
    assert only([one], slices) == Found(
        {Address("https://10.0.0.1:8443", "crm:443", "crm.team.svc", "/v2/mcp"): "a"},
        "1.2.3",
        ("llm_*", "rag_*"),
    )


def test_of_two_families_the_services_first_counts() -> None:
    six = service()
    six["spec"]["ipFamilies"] = ["IPv6", "IPv4"]
    slices = [pods(POD), pods({"addresses": ["fd00::1"]}, family="IPv6")]
    assert list(only([six], slices).endpoints) == [Address("http://[fd00::1]:8081", "crm:80")]


def test_an_only_port_needs_no_name_and_of_several_one_must_be_called_http(
    capsys: pytest.CaptureFixture[str],
) -> None:
    unnamed = service(ports=({"port": 80},))
    assert set(only([unnamed], [pods(POD, ports=({"port": 8081},))]).endpoints) == {AT_POD}
    several = service(ports=({"name": "a", "port": 1}, {"name": "b", "port": 2}))
    assert only([several], [pods(POD, ports=({"name": "a", "port": 1},))]).endpoints == {}
    assert "service_without_port" in capsys.readouterr().err


def test_services_that_share_a_name_share_the_calls() -> None:
    slices = [pods(POD), pods({"addresses": ["10.0.0.2"]}, of="crm-next")]
    found = only([service("crm-next"), service()], slices)
    assert {each.authority for each in found.endpoints} == {"crm:80", "crm-next:80"}


@pytest.mark.parametrize("name", ["", "gateway", "key", "Data", "a/b"])
def test_a_name_that_no_service_may_have_is_left_out_aloud(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found_in([service(fleet_name=name)], [pods(POD)], "team") == {}
    assert "service_label_ignored" in capsys.readouterr().err
