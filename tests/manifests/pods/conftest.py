"""The local overlay's pods, running here, and what of a cluster they cannot do without."""

from __future__ import annotations

import importlib.util
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import e2e
from fleet_cli.testing import PostgresServer
from fleet_common.testing.certificates import authority
from local_node import NAMESPACE, NETWORK, Node, Pod
from manifests import Manifest, render
from packages import ROOT

SERVERS = ("data", "devops", "aiml")
PODS = ("github-emulator", *SERVERS, "data-worker", "aiml-worker", "gateway")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts the fleet, each pod at an address of its own."""
    elsewhere = pytest.mark.skipif(
        sys.platform != "linux", reason="only Linux answers at all of 127.0.0.0/8"
    )
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(180))
            item.add_marker(elsewhere)


class Vault:
    """Keeps the Secrets that first_secrets.py makes."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, str]] = {}

    def ensure(self, name: str, make: Callable[[], dict[str, str]]) -> dict[str, str]:
        return self.secrets.setdefault(name, make())


def first_secrets() -> dict[str, dict[str, str]]:
    path = ROOT / "k8s/components/first-secrets/first_secrets.py"
    spec = importlib.util.spec_from_file_location("first_secrets", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vault = Vault()
    module.make_secrets(vault)
    return vault.secrets


@dataclass
class ApiServer:
    """What there is in one namespace, for service accounts whose Roles let them see it.

    Attributes:
        objects: by what is last in their URLs, such as `services`.
        rules: of each service account's Role; its token is its name.
    """

    url: str = ""
    certificate: str = ""
    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rules: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)

    def allows(self, account: str, group: str, resource: str, verb: str) -> bool:
        return any(
            group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]
            for rule in self.rules.get(account, [])
        )


class ApiHandler(BaseHTTPRequestHandler):
    """Lists, and watches in which nothing happens."""

    api: ApiServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        *_, resource = segments = parts.path.strip("/").split("/")
        group = segments[1] if segments[0] == "apis" else ""
        verb = "watch" if query.get("watch") == "true" else "list"
        account = self.headers.get("authorization", "").removeprefix("Bearer ")
        if not self.api.allows(account, group, resource, verb):
            self.send_error(403)
            return
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        if verb == "watch":
            self.wfile.flush()
            self.api.stopped.wait(float(query["timeoutSeconds"]))
            return
        label = query.get("labelSelector", "")
        found = [
            item
            for item in self.api.objects.get(resource, [])
            if not label or label in item["metadata"].get("labels", {})
        ]
        body = {"metadata": {"resourceVersion": "1"}, "items": found}
        self.wfile.write(json.dumps(body).encode())

    def log_request(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Yield the address under which a handler answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that checks rights, without anything in it yet."""
    trusted = authority(tmp_path_factory.mktemp("api"))
    api = ApiServer(certificate=trusted.pem)
    with serving(type("Handler", (ApiHandler,), {"api": api}), trusted.server) as place:
        api.url = f"https://{place}"
        yield api
        api.stopped.set()


class EmptyQdrant(BaseHTTPRequestHandler):
    """A Qdrant without collections, for whoever has its key."""

    key = ""

    def do_GET(self) -> None:
        is_known = self.headers.get("api-key") == self.key
        body = json.dumps({"result": {"exists": False}, "status": "ok", "time": 0}).encode()
        self.send_response(200 if is_known and self.path.endswith("/exists") else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        """Say nothing."""


def endpoint_slice(pod: Pod) -> dict[str, Any]:
    """Return what the controller makes of a ready pod."""
    name = pod.workload.name
    return {
        "metadata": {"name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": pod.port}],
        "endpoints": [{"addresses": [pod.address], "conditions": {"ready": True}}],
    }


@pytest.fixture(scope="session")
def manifests() -> list[Manifest]:
    """The local overlay with a GitHub and the pod from which `make e2e` calls it."""
    with e2e.chosen_manifests() as folder:
        return render(folder)


@pytest.fixture(scope="session")
def node(
    manifests: list[Manifest],
    api_server: ApiServer,
    lone_postgres_server: PostgresServer,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Node]:
    """All pods, ready; servers before the gateway, which finds them by their labels."""
    secrets, root = first_secrets(), tmp_path_factory.mktemp("node")
    account = root / "account"
    account.mkdir()
    for name, text in (("token", "gateway"), ("namespace", NAMESPACE)):
        (account / name).write_text(text)
    (account / "ca.crt").write_text(api_server.certificate)
    database = urlsplit(lone_postgres_server.create_database("crm"))
    with ExitStack() as stack:
        stack.callback(lone_postgres_server.drop_database, "crm")
        key = {"key": secrets["qdrant"]["password"]}
        qdrant = stack.enter_context(serving(type("Handler", (EmptyQdrant,), key)))
        places = {
            r"^postgresql://postgres:\w+@postgres:5432/crm$": database.geturl(),
            r"@postgres:5432/": f"@{database.hostname}:{database.port}/",
            r"^redis://:\w+@redis:6379/0$": redis_url,
            r"^http://qdrant:6333$": f"http://{qdrant}",
            r"^http://github-emulator:": f"http://{NETWORK}.1:",  # the first pod
        }
        node = Node(manifests, secrets, root, places)
        stack.callback(node.stop)
        node.added["github-emulator"] = {"HOST": node.pod("github-emulator").address}
        for name in PODS[:-1]:
            node.start(name)
        for name in PODS[:-1]:
            node.pods[name].become("startupProbe")
            node.pods[name].become("readinessProbe")
        api_server.rules["gateway"] = [
            rule
            for each in manifests
            if (each["kind"], each["metadata"]["name"]) == ("Role", "gateway")
            for rule in each["rules"]
        ]
        api_server.objects["services"] = [each for each in manifests if each["kind"] == "Service"]
        api_server.objects["endpointslices"] = [endpoint_slice(node.pods[s]) for s in SERVERS]
        node.added["gateway"] = {
            "FLEET_GATEWAY_KUBERNETES_URL": api_server.url,
            "FLEET_GATEWAY_KUBERNETES_ACCOUNT": str(account),
        }
        node.start("gateway").become("readinessProbe")
        yield node
