"""The Job that makes a first deployment's Secrets, against an API server that is a dict."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import yaml

from fleet_common.auth.internal import InternalSigner, InternalVerifier
from fleet_common.auth.keys import KeyFile
from fleet_common.auth.principal import Principal
from manifest_rules import OUTSIDE

COMPONENT = Path(__file__).parents[2] / "k8s/components/first-secrets"
PATH = "/api/v1/namespaces/mcp-fleet/secrets"


class Cluster:
    """Keeps Secrets as the API server does."""

    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, str]] = {}
        self.read: set[str] = set()

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            body = json.loads(request.content)
            self.secrets[body["metadata"]["name"]] = body["stringData"]
            return httpx.Response(201, json=body)
        name = request.url.path.removeprefix(f"{PATH}/")
        self.read.add(name)
        if name not in self.secrets:
            return httpx.Response(404)
        encoded = {k: base64.b64encode(v.encode()).decode() for k, v in self.secrets[name].items()}
        return httpx.Response(200, json={"data": encoded})

    def make(self, script: ModuleType) -> None:
        transport = httpx.MockTransport(self.answer)
        with httpx.Client(base_url="https://cluster", transport=transport) as api:
            script.make_secrets(script.Vault(api, "mcp-fleet"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("first_secrets", COMPONENT / "first_secrets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cluster(script: ModuleType) -> Cluster:
    made = Cluster()
    made.make(script)
    return made


def test_all_secrets_that_pods_mount_are_made(cluster: Cluster) -> None:
    wanted = {name for kind, name in OUTSIDE if kind == "Secret"} - {"gateway-tls"}
    assert wanted <= cluster.secrets.keys()


def test_the_first_key_opens_what_the_key_file_says(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(cluster.secrets["fleet-keys"]["keys.json"])
    record = KeyFile(tmp_path / "keys.json").lookup(cluster.secrets["first-keys"]["admin"])
    assert record is not None
    assert (record.roles, record.tenant) == (("admin",), "demo")


def test_services_believe_the_gateway(cluster: Cluster) -> None:
    signer = InternalSigner(cluster.secrets["fleet-internal-private"]["private.pem"].encode())
    public = cluster.secrets["fleet-internal-public"]["public.pem"].encode()
    who = Principal(subject="key:1", tenant="demo", roles=frozenset({"admin"}), kind="key")
    told = InternalVerifier(public, audience="data").verify(signer.mint(who, audience="data"))
    assert told is not None


def test_what_is_there_stays_and_what_was_lost_comes_back_the_same(
    cluster: Cluster, script: ModuleType
) -> None:
    before = {name: dict(values) for name, values in cluster.secrets.items()}
    for derived in ("fleet-keys", "data-migrator", "gateway", "fleet-internal-public"):
        del cluster.secrets[derived]
    cluster.make(script)
    assert cluster.secrets == before


def test_the_role_may_read_exactly_what_is_asked_for(cluster: Cluster) -> None:
    manifests = yaml.safe_load_all((COMPONENT / "rbac.yaml").read_text("utf-8"))
    (role,) = [each for each in manifests if each["kind"] == "Role"]
    create, get = role["rules"]
    assert create["verbs"] == ["create"]
    assert (get["verbs"], set(get["resourceNames"])) == (["get"], cluster.read)
