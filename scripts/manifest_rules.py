"""What must hold for all manifests of a deployment together: hardened pods, references that resolve, least rights.

Each rule takes everything that would be applied and returns sentences about what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

# Any: manifests are whatever YAML says; their schemas are checked elsewhere.
Manifest: TypeAlias = dict[str, Any]
Rule: TypeAlias = Callable[[list[Manifest]], Iterator[str]]

# The service accounts of these read or write the cluster; everybody else's token stays out of the pod.
TALKS_TO_THE_CLUSTER = {"gateway", "devops", "first-secrets"}
# Made by whoever deploys (k8s/README.md).
OUTSIDE = {
    ("ConfigMap", "fleet-policy"),
    *(
        ("Secret", name)
        for name in ("fleet-keys", "fleet-internal-private", "fleet-internal-public")
    ),
    *(("Secret", name) for name in ("gateway", "data", "data-migrator", "devops", "aiml")),
    *(("Secret", name) for name in ("postgres", "redis", "qdrant", "gateway-tls", "first-keys")),
    ("Secret", "fleet-shared"),
}
_WHOLE_FLEET = {"app.kubernetes.io/part-of": "mcp-fleet"}  # of which a team deploys its part
_IMAGE = re.compile(r"(?P<path>[a-z0-9]+(?:[._/-][a-z0-9]+)*):(?P<tag>[\w.-]+)")


@dataclass(frozen=True, slots=True)
class Workload:
    """What makes pods: a Deployment or a Job."""

    kind: str
    name: str
    template: Manifest

    @property
    def spec(self) -> Manifest:
        """Return the pods' spec."""
        spec: Manifest = self.template["spec"]
        return spec

    @property
    def labels(self) -> dict[str, str]:
        """Return the pods' labels."""
        labels: dict[str, str] = self.template["metadata"]["labels"]
        return labels

    @property
    def containers(self) -> list[Manifest]:
        """Return all containers, those of the start first."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> set[object]:
        """Return the names and numbers under which the pods listen."""
        ports = [port for each in self.spec["containers"] for port in each.get("ports", [])]
        return {port[key] for port in ports for key in ("name", "containerPort") if key in port}


def workloads(manifests: list[Manifest]) -> list[Workload]:
    """Return everything that makes pods."""
    return [
        Workload(each["kind"], each["metadata"]["name"], each["spec"]["template"])
        for each in manifests
        if "template" in each.get("spec", {}) and each["kind"] != "ExternalSecret"
    ]


def pods_are_restricted(manifests: list[Manifest]) -> Iterator[str]:
    """Pod Security "restricted", and more: a read-only root, no token that nobody needs, bounded memory."""
    for each in workloads(manifests):
        pod = each.spec.get("securityContext", {})
        if pod.get("runAsNonRoot") is not True:
            yield f"{each.name}: may run as root"
        if pod.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{each.name}: has no seccomp profile"
        if any(key in each.spec for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{each.name}: shares the host's namespaces"
        if any("hostPath" in volume for volume in each.spec.get("volumes", [])):
            yield f"{each.name}: mounts a path of the host"
        wants_token = each.spec.get("automountServiceAccountToken")
        if wants_token is not (each.name in TALKS_TO_THE_CLUSTER):
            yield f"{each.name}: automountServiceAccountToken is {wants_token}"
        for container in each.containers:
            yield from (f"{each.name}/{container['name']}: {text}" for text in _unsafe(container))


def _unsafe(container: Manifest) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "may write to its image"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= resources.get("requests", {}).keys():
        yield "requests no CPU or memory"
    if "memory" not in resources.get("limits", {}):
        yield "has no memory limit"


def servers_are_probed(manifests: list[Manifest]) -> Iterator[str]:
    """Whatever runs for good says when it is ready and when it is dead; ours also when it has started."""
    for each in workloads(manifests):
        if each.kind != "Deployment":
            continue
        is_ours = each.spec["containers"][0]["image"].startswith("fleet/")
        wanted = {"readinessProbe", "livenessProbe"} | ({"startupProbe"} if is_ours else set())
        for container in each.spec["containers"]:
            if missing := wanted - container.keys():
                yield f"{each.name}/{container['name']}: no {', '.join(sorted(missing))}"


def ends_outlast_calls(manifests: list[Manifest]) -> Iterator[str]:
    """A pod is killed only after preStop, the grace its process gives to calls, and a margin."""
    for each in workloads(manifests):
        container = each.spec["containers"][0]
        environment = _environment(container, manifests)
        graces = [float(v) for k, v in environment.items() if k.endswith("_SHUTDOWN_GRACE_S")]
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needed = pause + max(graces, default=0.0) + 5
        if graces and each.spec["terminationGracePeriodSeconds"] < needed:
            yield f"{each.name}: terminationGracePeriodSeconds is under {needed:g}"


def environment_of(manifests: list[Manifest], name: str) -> dict[str, str]:
    """Return what the first container of a workload reads from ConfigMaps and literals."""
    (found,) = [each for each in workloads(manifests) if each.name == name]
    return _environment(found.spec["containers"][0], manifests)


def _environment(container: Manifest, manifests: list[Manifest]) -> dict[str, str]:
    maps = {
        each["metadata"]["name"]: each["data"] for each in manifests if each["kind"] == "ConfigMap"
    }
    values: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            values |= maps.get(source["configMapRef"]["name"], {})
    return values | {each["name"]: each.get("value", "") for each in container.get("env", [])}


def images_are_pinned(manifests: list[Manifest]) -> Iterator[str]:
    """Images have a fixed tag, name no registry, and are not pulled when they are there."""
    for each in workloads(manifests):
        for container in each.containers:
            image = _IMAGE.fullmatch(container["image"])
            if image is None or image["tag"] == "latest" or "." in image["path"].split("/")[0]:
                yield f"{each.name}/{container['name']}: image {container['image']}"
            if container.get("imagePullPolicy") != "IfNotPresent":
                yield f"{each.name}/{container['name']}: imagePullPolicy"


def references_resolve(manifests: list[Manifest]) -> Iterator[str]:
    """Whatever a workload or a Role names is among the manifests, or is known to be made by whoever deploys."""
    known = OUTSIDE | {(each["kind"], each["metadata"]["name"]) for each in manifests}
    for manifest in manifests:
        for kind, name in {*_ruled(manifest)} - known:
            yield f"{manifest['metadata']['name']}: there is no {kind} {name}"
    for each in workloads(manifests):
        for kind, name in {*_named(each)} - known:
            yield f"{each.name}: there is no {kind} {name}"


def _ruled(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what a Role names. Where a ConfigMap has the name of a Secret, kustomize gives its hash to both."""
    for rule in manifest.get("rules", []) if manifest["kind"] == "Role" else []:
        if "secrets" in rule["resources"]:
            yield from (("Secret", name) for name in rule.get("resourceNames", []))


def _named(workload: Workload) -> Iterator[tuple[str, str]]:
    if account := workload.spec.get("serviceAccountName"):
        yield "ServiceAccount", account
    for volume in workload.spec.get("volumes", []):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in workload.containers:
        sources = [*container.get("envFrom", [])]
        sources += [each["valueFrom"] for each in container.get("env", []) if "valueFrom" in each]
        for source in sources:
            for key, kind in (("configMap", "ConfigMap"), ("secret", "Secret")):
                if found := source.get(f"{key}Ref") or source.get(f"{key}KeyRef"):
                    yield kind, found["name"]


def selectors_select(manifests: list[Manifest]) -> Iterator[str]:
    """Services, budgets, policies and monitors select pods that there are, and Services ports they listen on."""
    pods = workloads(manifests)
    for each in manifests:
        selector = _selector(each)
        if not selector or selector == _WHOLE_FLEET:
            continue
        chosen = [pod for pod in pods if selector.items() <= pod.labels.items()]
        if not chosen:
            yield f"{each['kind']} {each['metadata']['name']}: selects no pod"
        if each["kind"] == "Service":
            wanted = {port.get("targetPort", port["port"]) for port in each["spec"]["ports"]}
            yield from (
                f"Service {each['metadata']['name']}: {pod.name} has no port {port}"
                for pod in chosen
                for port in wanted - pod.ports
            )


def _selector(manifest: Manifest) -> dict[str, str]:
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Service":
        labels: dict[str, str] = spec.get("selector", {})
        return labels
    key = {"NetworkPolicy": "podSelector"}.get(manifest["kind"], "selector")
    found = spec.get(key, {})
    return found.get("matchLabels", {}) if isinstance(found, dict) else {}


def everybody_has_a_policy(manifests: list[Manifest]) -> Iterator[str]:
    """Each pod is chosen by a NetworkPolicy of its own that closes both directions."""
    closing = [
        _selector(each)
        for each in manifests
        if each["kind"] == "NetworkPolicy"
        and set(each["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    ]
    for pod in workloads(manifests):
        if not any(own and own.items() <= pod.labels.items() for own in closing):
            yield f"{pod.name}: no NetworkPolicy of its own"


def routes_lead_to_services(manifests: list[Manifest]) -> Iterator[str]:
    """Ingresses and HTTPRoutes lead to ports of Services, and never to metrics or probes."""
    ports = {
        (each["metadata"]["name"], port[key])
        for each in manifests
        if each["kind"] == "Service"
        for port in each["spec"]["ports"]
        for key in ("name", "port")
    }
    for name, path, backend in _routes(manifests):
        if backend not in ports:
            yield f"{name}: {backend[0]}:{backend[1]} is no Service"
        if path.startswith(("/metrics", "/livez", "/readyz", "/startupz")):
            yield f"{name}: {path} is nobody's business"


def _routes(manifests: list[Manifest]) -> Iterator[tuple[str, str, tuple[str, object]]]:
    for each in manifests:
        name = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] == "Ingress":
            for path in (p for rule in each["spec"]["rules"] for p in rule["http"]["paths"]):
                service = path["backend"]["service"]
                yield name, path["path"], (service["name"], next(iter(service["port"].values())))
        if each["kind"] == "HTTPRoute":
            for rule in each["spec"]["rules"]:
                for match in rule["matches"]:
                    for backend in rule["backendRefs"]:
                        yield name, match["path"]["value"], (backend["name"], backend["port"])


def rights_are_least(manifests: list[Manifest]) -> Iterator[str]:
    """No wildcards, nothing for the whole cluster, and only the first start may touch Secrets."""
    for each in manifests:
        name = each["metadata"]["name"]
        if each["kind"] in {"ClusterRole", "ClusterRoleBinding"}:
            yield f"{each['kind']} {name}: reaches beyond the namespace"
        for rule in each.get("rules", []) if each["kind"] == "Role" else []:
            if "*" in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}:
                yield f"Role {name}: has a wildcard"
            if "secrets" in rule["resources"] and name != "first-secrets":
                yield f"Role {name}: reads Secrets"


def scaled_have_no_replicas(manifests: list[Manifest]) -> Iterator[str]:
    """What an autoscaler scales exists, is scaled once, and says no number of its own, which would fight it."""
    deployments = {e["metadata"]["name"]: e["spec"] for e in manifests if e["kind"] == "Deployment"}
    scaled = [
        each["spec"]["scaleTargetRef"]["name"]
        for each in manifests
        if each["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}
    ]
    for name in sorted(set(scaled)):
        if name not in deployments:
            yield f"{name} is scaled and does not exist"
        elif "replicas" in deployments[name]:
            yield f"{name} is scaled and has replicas"
        if scaled.count(name) > 1:
            yield f"{name} is scaled twice"


RULES: tuple[Rule, ...] = (
    pods_are_restricted,
    servers_are_probed,
    ends_outlast_calls,
    images_are_pinned,
    references_resolve,
    selectors_select,
    everybody_has_a_policy,
    routes_lead_to_services,
    rights_are_least,
    scaled_have_no_replicas,
)


def complaints(manifests: list[Manifest]) -> list[str]:
    """Return what any rule says."""
    return [text for rule in RULES for text in rule(manifests)]
