"""Who may talk to whom, as NetworkPolicies say it: what the fleet needs, and a good deal that it does not."""

from __future__ import annotations

from typing import Any

import pytest

import e2e
from manifest_rules import Workload, workloads
from manifests import Manifest, render

ANYWHERE = "somebody of another namespace"
WORLD = "an address outside"
SERVERS = {"gateway": 8080, "data": 8081, "devops": 8082, "aiml": 8083}
DNS, API, HTTPS, GITHUB = 53, 6443, 443, 8080
OURS = [*SERVERS, "data-worker", "aiml-worker"]
NEEDED: list[tuple[str, str, int]] = [
    *((name, "redis", 6379) for name in OURS),
    *((name, "postgres", 5432) for name in ("data", "data-worker")),
    *((name, "qdrant", 6333) for name in ("aiml", "aiml-worker")),
    *(("gateway", name, port) for name, port in SERVERS.items() if name != "gateway"),
    *((ANYWHERE, name, SERVERS[name.removesuffix("-worker")]) for name in OURS),  # Prometheus, too
    *((name, WORLD, DNS) for name in (*OURS, "first-secrets", "e2e-driver")),
    *((name, WORLD, API) for name in ("gateway", "devops", "first-secrets")),
    *((name, WORLD, HTTPS) for name in ("gateway", "devops", "first-secrets", "data", "aiml")),
    ("e2e-driver", "gateway", 8080),
    ("devops", "github-emulator", GITHUB),
]
DENIED: list[tuple[str, str, int]] = [
    *((ANYWHERE, name, port) for name, port in (("postgres", 5432), ("redis", 6379))),
    *((name, "postgres", 5432) for name in ("gateway", "devops", "aiml", "e2e-driver")),
    *(("e2e-driver", name, port) for name, port in (("redis", 6379), ("data", 8081))),
    *(
        (name, WORLD, HTTPS)
        for name in ("postgres", "redis", "qdrant", "github-emulator", "e2e-driver")
    ),
    ("first-secrets", "data", 8081),
    ("data", "github-emulator", GITHUB),
]


@pytest.fixture(scope="module")
def fleet() -> list[Manifest]:
    with e2e.chosen_manifests() as folder:
        return render(folder)


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    assert {each["operator"] for each in expressions} <= {"In"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def opens(rule: Manifest, end: str, peer: Workload | None, port: int, names: set[Any]) -> bool:
    """Return whether one rule lets through what comes from, or goes to, a pod; None is anybody else."""
    ports = [each["port"] for each in rule.get("ports", [])]
    if ports and port not in ports and not names & {*ports}:
        return False
    peers = rule.get(end, [])
    return not peers or any(
        peer is not None and "podSelector" in each and selects(each["podSelector"], peer.labels)
        for each in peers
    )


def may_talk(fleet: list[Manifest], source: str, target: str, port: int) -> bool:
    pods = {each.name: each for each in workloads(fleet)}
    policies = [each["spec"] for each in fleet if each["kind"] == "NetworkPolicy"]
    found = []
    for name, peer, end in ((source, target, "to"), (target, source, "from")):
        if name not in pods:
            continue  # not ours to close
        direction = {"to": "egress", "from": "ingress"}[end]
        mine = [
            policy
            for policy in policies
            if selects(policy["podSelector"], pods[name].labels)
            and direction.capitalize() in policy["policyTypes"]
        ]
        listens = pods[target].spec["containers"][0].get("ports", []) if target in pods else []
        names = {each["name"] for each in listens if each["containerPort"] == port}
        rules = [rule for policy in mine for rule in policy.get(direction, [])]
        found.append(
            not mine or any(opens(rule, end, pods.get(peer), port, names) for rule in rules)
        )
    return all(found)


@pytest.mark.parametrize(("source", "target", "port"), NEEDED)
def test_what_the_fleet_needs_is_open(
    source: str, target: str, port: int, fleet: list[Manifest]
) -> None:
    assert may_talk(fleet, source, target, port)


@pytest.mark.parametrize(("source", "target", "port"), DENIED)
def test_what_nobody_needs_is_closed(
    source: str, target: str, port: int, fleet: list[Manifest]
) -> None:
    assert not may_talk(fleet, source, target, port)
