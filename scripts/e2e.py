"""Prove the fleet on a real cluster, the current kube context: `make e2e`. Prints a report; 1 means that a part failed.

FLEET_E2E_LOAD   how images get there: kind:NAME, k3d:NAME, registry:HOST, cmd:SHELL (with $IMG), none (they are)
FLEET_E2E_OVERLAY  local (default) or local-embedded, whose single aiml cannot be scaled
METRICS          prometheus-adapter or keda: what autoscaling reads; without it scaling is not tried. Prometheus must
                 have the rules of k8s/components/monitoring/rules/scaling.yaml, the adapter its externalRules
FLEET_E2E_PROMETHEUS  where KEDA finds it, such as http://prometheus.monitoring:9090
FLEET_E2E_SECONDS  how long load lasts in each part (90)
Where scaling is tried pods have few slots, so that a laptop's load fills them; rules and behaviours are as they are.
Without a cluster nothing is tried, which is no failure.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from manifest_rules import workloads
from manifests import kubectl, render
from packages import ROOT

NAMESPACE = "mcp-fleet"
SERVICES = ("data", "devops", "aiml")
SCALERS = {"prometheus-adapter": "autoscale-hpa", "keda": "autoscale-keda"}
SECONDS = float(os.environ.get("FLEET_E2E_SECONDS", "90"))
AT_ONCE = 48
SLOTS = {"data": 1, "devops": 1, "aiml": 1}
"""Of a pod where scaling is tried; twice as many calls may wait. The gateway, with so few, would hold calls back."""
PODS = (1, 4)
_READY_S = 600
_SETTLES_S = 900  # windows of three minutes, halves each minute, and what reads metrics may be slow to find them
_IDLE_S = 60


class Failed(Exception):
    """Raised when a part fails; the text says how."""


def run(*words: str, check: bool = True, timeout_s: float = _READY_S) -> str:
    """Return what kubectl prints, in our namespace."""
    done = subprocess.run(
        [kubectl(), "--namespace", NAMESPACE, *words],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if check and done.returncode != 0:
        raise Failed(f"kubectl {' '.join(words[:3])}: {done.stderr.strip()[-500:]}")
    return done.stdout


def read(*words: str) -> Any:
    """Return what kubectl gets, parsed."""
    return json.loads(run("get", *words, "--output=json"))


@contextmanager
def chosen_manifests() -> Iterator[Path]:
    """Yield a kustomization of the overlay with what this run adds to it."""
    how, _, where = os.environ.get("FLEET_E2E_LOAD", "none").partition(":")
    metrics = os.environ.get("METRICS")
    added = ["e2e-driver", "github-emulator", *([SCALERS[metrics]] if metrics else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()

        def relative(*parts: str) -> str:
            return os.path.relpath(ROOT.joinpath("k8s", *parts), folder)

        overlay = os.environ.get("FLEET_E2E_OVERLAY", "local")
        if metrics and overlay == "local-embedded":
            sys.exit(
                "e2e: local-embedded keeps aiml's vectors in one pod, which cannot be scaled: use local"
            )
        content: dict[str, Any] = {
            "namespace": NAMESPACE,
            "resources": [relative("overlays", overlay)],
            "components": [relative("components", each) for each in added],
        }
        if how == "registry":
            names = [f"fleet/{each}" for each in ("gateway", *SERVICES)]
            content["images"] = [{"name": each, "newName": f"{where}/{each}"} for each in names]
        if metrics:
            content["patches"] = [
                _patch(kind, f"{service}-settings" if kind == "ConfigMap" else service, changes)
                for service in SLOTS
                for kind, changes in _small(metrics, service).items()
            ]
        address = os.environ.get("FLEET_E2E_PROMETHEUS")
        if metrics == "keda" and address:
            for scaled, trigger in ((".*", 0), ("aiml", 1)):
                place = f"/spec/triggers/{trigger}/metadata/serverAddress"
                content["patches"].append(_patch("ScaledObject", scaled, {place: address}))
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
        yield folder


def _small(metrics: str, service: str) -> dict[str, dict[str, Any]]:
    """Return what makes a service's pods small, by kind: values by their places."""
    slots, (fewest, most), told = SLOTS[service], PODS, f"/data/FLEET_{service.upper()}"
    pods = {f"{told}_SLOTS": str(slots), f"{told}_QUEUE": str(2 * slots)}
    if metrics == "prometheus-adapter":
        target = "/spec/metrics/0/external/target/averageValue"
        bounds = {"/spec/minReplicas": fewest, "/spec/maxReplicas": most}
        return {"ConfigMap": pods, "HorizontalPodAutoscaler": {target: str(slots), **bounds}}
    scaled: dict[str, Any] = {"/spec/minReplicaCount": fewest, "/spec/maxReplicaCount": most}
    goes_to_zero = service == "aiml"  # by idleReplicaCount
    for trigger in range(2 if goes_to_zero else 1):
        scaled[f"/spec/triggers/{trigger}/metadata/threshold"] = str(slots)
    if goes_to_zero:
        scaled["/spec/cooldownPeriod"] = _IDLE_S
    return {"ConfigMap": pods, "ScaledObject": scaled}


def _patch(kind: str, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    steps = [{"op": "replace", "path": path, "value": value} for path, value in changes.items()]
    return {"target": {"kind": kind, "name": f"^{name}$"}, "patch": yaml.safe_dump(steps)}


def load_images(folder: Path) -> str:
    """Bring our images to the cluster."""
    how, _, where = os.environ.get("FLEET_E2E_LOAD", "none").partition(":")
    ours = sorted(
        {
            c["image"]
            for each in workloads(render(folder))
            for c in each.containers
            if "fleet/" in c["image"]
        }
    )
    for image in ours:
        local = image.removeprefix(f"{where}/")
        commands = {
            "kind": ["kind load docker-image $IMG --name $WHERE"],
            "k3d": ["k3d image import $IMG --cluster $WHERE"],
            "registry": ["docker tag $LOCAL $IMG", "docker push $IMG"],
            "cmd": [where],
            "none": [],
        }[how]
        environment = {**os.environ, "IMG": image, "WHERE": where, "LOCAL": local}
        for command in commands:
            subprocess.run(["sh", "-c", command], env=environment, check=True)
    return f"{len(ours)} images, {how}"


def deploy(folder: Path) -> str:
    """Apply everything and wait until it is ready."""
    began = time.monotonic()
    run("apply", "--kustomize", str(folder))
    run("rollout", "status", "deployment", f"--timeout={_READY_S}s", timeout_s=_READY_S * 10)
    return f"ready after {time.monotonic() - began:.0f} s"


def drive(*words: str) -> Any:
    """Return what the driver prints."""
    command = ["exec", "deployment/e2e-driver", "--", "python3", "/scripts/drive.py", *words]
    return json.loads(run(*command, timeout_s=SECONDS * 2 + 120))


@contextmanager
def load(service: str, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Call a service while the block runs, and for `seconds` at most."""
    words = ["exec", "deployment/e2e-driver", "--", "python3", "/scripts/drive.py", "load"]
    command = [kubectl(), "--namespace", NAMESPACE, *words, service, str(seconds), str(AT_ONCE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def outcomes(process: subprocess.Popen[str]) -> dict[str, int]:
    """Return what became of the calls, after the last one."""
    text, _ = process.communicate(timeout=SECONDS * 2 + 120)
    found: dict[str, int] = json.loads(text)["outcomes"]
    return found


def clients() -> str:
    """Both protocol eras list tools and reach every service."""
    found = drive("check")
    wrong = [
        f"{era}/{s}" for era, each in found.items() for s, ok in each["calls"].items() if not ok
    ]
    if wrong:
        raise Failed(f"calls failed: {', '.join(wrong)}")
    return ", ".join(f"{era}: {each['tools']} tools" for era, each in found.items())


def kills() -> str:
    """Pods die under load, and every call that is lost is one that the dying pod had."""
    return ", ".join(_under_load(service, _kill_one) for service in SERVICES)


def rolls() -> str:
    """Every service is rolled under load, and no call is lost."""
    return ", ".join(_under_load(service, _roll, lost=0) for service in ("gateway", *SERVICES))


def _under_load(service: str, act: Callable[[str], None], lost: int = AT_ONCE) -> str:
    target = "data" if service == "gateway" else service
    with load(target, SECONDS) as process:
        time.sleep(SECONDS / 5)
        act(service)
        found = outcomes(process)
    missing = sum(n for outcome, n in found.items() if outcome not in {"ok", "told"})
    if not found.get("ok") or missing > lost:
        raise Failed(f"{service}: {found}")
    return f"{service}: {found['ok']} ok, {found.get('told', 0)} told to wait, {missing} lost"


def _kill_one(service: str) -> None:
    selector = f"app.kubernetes.io/name={service},app.kubernetes.io/component=server"
    found: list[Any] = []

    def are_there() -> bool:
        found[:] = read("pods", f"--selector={selector}", "--field-selector=status.phase=Running")[
            "items"
        ]
        return bool(found)

    _wait(are_there, SECONDS / 2, f"{service} has no pod to kill")
    run("delete", "pod", found[0]["metadata"]["name"], "--grace-period=0", "--force")


def _roll(service: str) -> None:
    run("rollout", "restart", f"deployment/{service}")
    run("rollout", "status", f"deployment/{service}", f"--timeout={_READY_S}s")


@dataclass(frozen=True)
class Autoscaler:
    """An HPA, made by us or by KEDA, as it is now."""

    name: str
    target: str
    floor: int
    can_read: bool
    reading: str

    @classmethod
    def all(cls) -> dict[str, Autoscaler]:
        """Return those there are, by what they scale."""
        found = [cls.of(each) for each in read("hpa")["items"]]
        return {each.target: each for each in found}

    @classmethod
    def of(cls, manifest: Any) -> Autoscaler:
        """Return what the API server says of one."""
        spec, status = manifest["spec"], manifest.get("status", {})
        active = [c for c in status.get("conditions", []) if c["type"] == "ScalingActive"]
        # With no pod there is nothing to scale, and KEDA itself looks.
        can_read = any(c["status"] == "True" or c["reason"] == "ScalingDisabled" for c in active)
        metrics = [each.get("external") for each in status.get("currentMetrics") or []]
        values = [each["current"].get("averageValue", "?") for each in metrics if each]
        return cls(
            manifest["metadata"]["name"],
            spec["scaleTargetRef"]["name"],
            spec["minReplicas"],
            can_read,
            "/".join(values),
        )


def scales() -> str:
    """Each autoscaled service grows under load and shrinks after it."""
    if "METRICS" not in os.environ:
        return "not tried: METRICS is not set"
    targets = Autoscaler.all()
    found = [_scale(service) for service in SERVICES if service in targets]
    if not found:
        raise Failed("no service has an autoscaler")
    return ", ".join(found)


def _scale(service: str) -> str:
    def now() -> Autoscaler:
        return Autoscaler.all()[service]

    _wait(lambda: now().can_read, _SETTLES_S, f"{service}: the HPA cannot read its metric")
    floor = now().floor
    _wait(lambda: _replicas(service) <= floor, _SETTLES_S, f"{service} is not at rest")
    before, began = _replicas(service), time.monotonic()
    with load(service, SECONDS):
        grown_s = _wait(lambda: _replicas(service) > floor, SECONDS, f"{service} did not grow")
        most, reading = 0, now().reading
        while time.monotonic() - began < SECONDS:
            most = max(most, _replicas(service))
            time.sleep(2)
    ended = time.monotonic()
    shrunk_s = _wait(
        lambda: _replicas(service) <= floor, _SETTLES_S, f"{service} did not shrink again"
    )
    return (
        f"{service}: {before} → {most} after {grown_s - began:.0f} s, at {reading} slots a pod of "
        f"{SLOTS[service]}, back {shrunk_s - ended:.0f} s after the load"
    )


def wakes() -> str:
    """A service that nobody calls goes to zero, and the first call waits for its pod."""
    if os.environ.get("METRICS") != "keda":
        return "not tried: only KEDA goes to zero"
    _wait(lambda: _replicas("aiml") == 0, _SETTLES_S, "aiml did not go to zero")
    began = time.monotonic()
    found = clients()
    return f"aiml: 0 → {_replicas('aiml')}, every client answered after {time.monotonic() - began:.0f} s ({found})"


def _replicas(service: str) -> int:
    return int(read(f"deployment/{service}")["spec"].get("replicas", 0))


def _wait(holds: Callable[[], bool], within_s: float, otherwise: str) -> float:
    ends = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > ends:
            raise Failed(otherwise)
        time.sleep(2)
    return time.monotonic()


def reachable() -> str | None:
    """Return the name of the current context, None without a cluster."""
    try:
        run("version", "--request-timeout=10s", timeout_s=30)
        return run("config", "current-context", check=False).strip() or "in-cluster"
    except (Failed, subprocess.TimeoutExpired):
        return None


def main() -> int:
    """Run every part and print the report."""
    context = reachable()
    if context is None:
        print("e2e: SKIPPED, the current kube context reaches no cluster")
        return 0
    load_shown = shlex.quote(os.environ.get("FLEET_E2E_LOAD", "none"))
    print(f"e2e on {context}, images {load_shown}, metrics {os.environ.get('METRICS', 'none')}")
    with chosen_manifests() as folder:
        parts: dict[str, Callable[[], str]] = {
            "images": lambda: load_images(folder),
            "deploy": lambda: deploy(folder),
            "clients": clients,
            "kills": kills,
            "rolls": rolls,
            "scales": scales,
            "wakes": wakes,
        }
        results = [_part(name, part) for name, part in parts.items()]
    return 0 if all(results) else 1


def _part(name: str, part: Callable[[], str]) -> bool:
    try:
        print(f"  ok    {name}: {part()}", flush=True)
    except (Failed, subprocess.SubprocessError) as exc:
        print(f"  FAIL  {name}: {exc}", flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
