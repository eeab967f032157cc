"""A Kubernetes API for tests: kmock keeps the state, this adds the tables and pages it lacks."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import kmock
import pytest

from fleet_devops.cluster.client import KubeClient
from fleet_devops.cluster.service import Cluster
from fleet_devops.reach import Reach

TOKEN = "kube-token"


@attrs.define(kw_only=True)
class TableServer(kmock.KubernetesEmulator):
    """Answers lists as the API server does: as tables when asked, in pages, by label."""

    tables: bool = True

    async def _serve_list(self, request: kmock.Request) -> Any:
        # Any: kmock's payload may be anything; of a list it is the list as JSON.
        listed: Any = await kmock.KubernetesEmulator._serve_list(self, request)
        items = sorted(listed["items"], key=_name)
        items = [item for item in items if _selected(item, request.params)]
        page, metadata = _page(items, request.params)
        if not self.tables or "as=Table" not in request.headers["Accept"]:
            return {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": page}
        with_metadata = request.params.get("includeObject") == "Metadata"
        return {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": COLUMNS,
            "rows": [_row(item, with_metadata=with_metadata) for item in page],
        }


COLUMNS = [
    {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
    {"name": "Status", "type": "string", "format": "", "description": "", "priority": 0},
    {"name": "IP", "type": "string", "format": "", "description": "", "priority": 1},
]


def _name(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _selected(item: Mapping[str, Any], params: Mapping[str, str]) -> bool:
    selector = params.get("labelSelector")
    if not selector:
        return True
    key, _, value = selector.partition("=")
    return bool(item["metadata"].get("labels", {}).get(key) == value)


def _page(
    items: list[dict[str, Any]], params: Mapping[str, str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    start = json.loads(base64.b64decode(params["continue"])) if "continue" in params else 0
    end = start + int(params.get("limit", 500))
    if end >= len(items):
        return items[start:], {"resourceVersion": "7"}
    token = base64.b64encode(json.dumps(end).encode()).decode()
    rest = {"continue": token, "remainingItemCount": len(items) - end}
    return items[start:end], {"resourceVersion": "7", **rest}


def _row(item: dict[str, Any], *, with_metadata: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"cells": [item["metadata"]["name"], "Running", "10.0.0.1"]}
    if with_metadata:
        partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        row["object"] = {**partial, "metadata": item["metadata"]}
    return row


@pytest.fixture
def kmock_options() -> dict[str, Any]:
    """Make the `kmock` fixture serve tables."""
    return {"cls": TableServer}


@pytest.fixture
def api(kmock: TableServer) -> TableServer:
    """Return the API with a few pods, a secret, a node and a custom kind."""
    for namespace, count in (("team-a", 5), ("team-b", 2)):
        for number in range(count):
            labels = {"app": "web" if number % 2 else "db"}
            put(kmock, "v1/pods", "Pod", f"pod-{number}", namespace, labels=labels)
    put(kmock, "v1/nodes", "Node", "node-1", None)
    put(kmock, "v1/secrets", "Secret", "login", "team-a", data={"password": "aHVudGVyMg=="})
    put(kmock, "cert-manager.io/v1/certificates", "Certificate", "site", "team-a")
    kmock.resources["cert-manager.io/v1/certificates"].kind = "Certificate"
    kmock.resources["cert-manager.io/v1/certificates"].namespaced = True
    return kmock


def put(
    server: TableServer,
    resource: str,
    kind: str,
    name: str,
    namespace: str | None,
    *,
    labels: dict[str, str] | None = None,
    **parts: Any,
) -> None:
    """Put an object into the server, with the bookkeeping that real ones carry."""
    metadata = {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": labels or {},
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": json.dumps(parts),
            "team": "a",
        },
    }
    if namespace:
        metadata["namespace"] = namespace
    body = {"apiVersion": "v1", "kind": kind, "metadata": metadata, **parts}
    server.objects[resource, namespace, name] = body


@pytest.fixture
def kubeconfig_for(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a kubeconfig with a token for a server, and what else is said of it."""

    def write(server: str, **cluster: str) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        return path

    return write


@pytest.fixture
def kubeconfig(kmock: TableServer, kubeconfig_for: Callable[..., Path]) -> Path:
    """Return a kubeconfig that leads to the server."""
    return kubeconfig_for(str(kmock.servers[0].url).rstrip("/"))


@pytest.fixture
async def client(kubeconfig: Path) -> AsyncIterator[KubeClient]:
    """Return a client of the server."""
    async with KubeClient.open(kubeconfig=kubeconfig, context=None, timeout_s=2) as opened:
        yield opened


@pytest.fixture
def cluster(client: KubeClient, api: TableServer) -> Cluster:
    """Return the service; every namespace is within reach."""
    return Cluster(client, Reach((), ("*",)), digest_key=b"test")
