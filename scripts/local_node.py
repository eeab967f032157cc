"""Runs the pods of rendered manifests as processes of this machine: command, environment, files, addresses and probes.

A node's work is done as far as a machine without one can: an address of its own for each pod, Secrets and ConfigMaps
as files and variables, volumes as folders, $(VARIABLES), the image's CMD and ENV, init containers first.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from manifest_rules import Manifest, Workload, workloads
from packages import ROOT

NAMESPACE = "mcp-fleet"
STARTS_S = 90
EVERYWHERE = "0.0.0.0"
# Each run has a network of its own, so that two may run on one machine.
NETWORK = f"127.{100 + os.getpid() % 100}.{os.getpid() // 100 % 256}"


def image(reference: str) -> tuple[dict[str, str], list[str]]:
    """Return the environment and the command of one of our images."""
    name = reference.partition(":")[0].removeprefix("fleet/")
    last = (ROOT / f"docker/{name}.Dockerfile").read_text("utf-8").rpartition("\nFROM ")[2]
    lines = re.findall(r"^ENV (.*)$", last, re.MULTILINE)
    environment = dict(word.split("=", 1) for line in lines for word in line.split())
    (command,) = re.findall(r"^CMD (.*)$", last, re.MULTILINE)
    return environment, json.loads(command)


def port_of(probe: Manifest) -> str:
    """Return the name of the port that a probe asks."""
    (how,) = [probe[each] for each in ("httpGet", "tcpSocket") if each in probe]
    return str(how["port"])


@dataclass
class Pod:
    """A workload's only pod on this node."""

    workload: Workload
    address: str
    root: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def container(self) -> Manifest:
        """Return the pods' only container."""
        found: Manifest = self.workload.spec["containers"][0]
        return found

    @property
    def log(self) -> Path:
        """Return what its processes wrote."""
        return self.root / "log"

    @property
    def port(self) -> int:
        """Return its only port."""
        (found,) = self.container["ports"]
        return int(found["containerPort"])

    @property
    def url(self) -> str:
        """Return where it answers."""
        return f"http://{self.address}:{self.port}"

    def get(self, path: str) -> httpx.Response:
        """Ask as kubelet and Prometheus do: by the pod's address."""
        return httpx.get(f"{self.url}{path}", timeout=5)

    def passes(self, probe: str) -> bool:
        """Return whether a probe passes now."""
        wanted = self.container[probe]
        assert {p["name"] for p in self.container["ports"]} == {port_of(wanted)}
        try:
            return self.get(wanted.get("httpGet", {"path": "/"})["path"]).is_success
        except httpx.TransportError:
            return False

    def become(self, probe: str) -> None:
        """Wait until a probe passes."""
        ends = time.monotonic() + STARTS_S
        while not self.passes(probe):
            is_running = self.process is not None and self.process.poll() is None
            assert is_running and time.monotonic() < ends, self.log.read_text()[-3000:]  # noqa: PT018
            time.sleep(0.1)


@dataclass
class Node:
    """Runs pods.

    Attributes:
        places: what is elsewhere here than on a cluster: a pattern of an environment's value, and what takes its place.
        added: what a pod is told besides, as it cannot have its service account's folder.
    """

    manifests: list[Manifest]
    secrets: dict[str, dict[str, str]]
    root: Path
    places: dict[str, str]
    added: dict[str, dict[str, str]] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)

    def pod(self, name: str) -> Pod:
        """Return a workload's pod, which need not run."""
        if name not in self.pods:
            (workload,) = [each for each in workloads(self.manifests) if each.name == name]
            root = self.root / name
            root.mkdir()
            self.pods[name] = Pod(workload, f"{NETWORK}.{len(self.pods) + 1}", root)
        return self.pods[name]

    def start(self, name: str) -> Pod:
        """Run a pod's init containers to their end, and start its container."""
        pod = self.pod(name)
        for each in pod.workload.spec.get("initContainers", []):
            done = self._popen(pod, each).wait(STARTS_S)
            assert done == 0, f"{name}/{each['name']}: {pod.log.read_text()[-3000:]}"
        pod.process = self._popen(pod, pod.container)
        return pod

    def command(self, pod: Pod, container: Manifest, *words: str) -> list[str]:
        """Return what runs in a container, or `words` in place of it."""
        given = [*container.get("command", []), *container.get("args", [])]
        chosen = words or given or image(container["image"])[1]
        return [self._moved(pod, container, each) for each in chosen]

    def environment(self, pod: Pod, container: Manifest) -> dict[str, str]:
        """Return what a container's process sees."""
        values, _ = image(container["image"])
        assert all(value == EVERYWHERE for key, value in values.items() if key.endswith("_HOST"))
        for source in container.get("envFrom", []):
            values |= self._held(source)
        for each in container.get("env", []):
            given = each.get("value") or self._referred(pod, each["valueFrom"])
            values[each["name"]] = re.sub(r"\$\((\w+)\)", lambda m: values[m[1]], given)
        values = {key: self._moved(pod, container, value) for key, value in values.items()}
        hosts = {key: pod.address for key in values if re.fullmatch(r"FLEET_[A-Z]+_HOST", key)}
        here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": "/"}
        return values | hosts | here | self.added.get(pod.workload.name, {})

    def variables(self, name: str) -> dict[str, str]:
        """Return the variables that a workload's first container is given one by one."""
        (found,) = [each for each in workloads(self.manifests) if each.name == name]
        given = found.spec["containers"][0]["env"]
        nowhere = Pod(found, "", self.root)
        return {e["name"]: e.get("value") or self._referred(nowhere, e["valueFrom"]) for e in given}

    def execute(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a pod, as `kubectl exec` does."""
        pod = self.pod(name)
        self._mount(pod, pod.container)
        return subprocess.run(
            self.command(pod, pod.container, *words),
            cwd="/",
            env=self.environment(pod, pod.container),
            capture_output=True,
            text=True,
            timeout=STARTS_S,
            check=False,
        )

    def stop(self) -> None:
        """End what was started; a process that does not heed SIGTERM in time is an error."""
        running = [each.process for each in self.pods.values() if each.process]
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(30)

    def _popen(self, pod: Pod, container: Manifest) -> subprocess.Popen[bytes]:
        self._mount(pod, container)
        command = self.command(pod, container)
        with pod.log.open("ab") as log:
            return subprocess.Popen(
                command, cwd="/", env=self.environment(pod, container), stdout=log, stderr=log
            )

    def _mount(self, pod: Pod, container: Manifest) -> None:
        volumes = {each["name"]: each for each in pod.workload.spec.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            folder, volume = self._at(pod, mount["mountPath"]), volumes[mount["name"]]
            folder.mkdir(parents=True, exist_ok=True)
            texts = self.secrets[volume["secret"]["secretName"]] if "secret" in volume else {}
            if "configMap" in volume:
                texts = self._map(volume["configMap"]["name"])
            for name, text in texts.items():
                (folder / name).write_text(text)

    def _at(self, pod: Pod, path: str) -> Path:
        return pod.root / "files" / path.strip("/")

    def _moved(self, pod: Pod, container: Manifest, value: str) -> str:
        for mount in container.get("volumeMounts", []):
            if value == mount["mountPath"] or value.startswith(f"{mount['mountPath']}/"):
                return str(self._at(pod, value))
        for pattern, here in self.places.items():
            value = re.sub(pattern, here, value)
        return value

    def _map(self, name: str) -> dict[str, str]:
        (data,) = [
            each["data"]
            for each in self.manifests
            if (each["kind"], each["metadata"]["name"]) == ("ConfigMap", name)
        ]
        return dict(data)

    def _held(self, source: Manifest) -> dict[str, str]:
        if "configMapRef" in source:
            return self._map(source["configMapRef"]["name"])
        return self.secrets[source["secretRef"]["name"]]

    def _referred(self, pod: Pod, source: Manifest) -> str:
        if "secretKeyRef" in source:
            return self.secrets[source["secretKeyRef"]["name"]][source["secretKeyRef"]["key"]]
        known = {"status.podIP": pod.address, "metadata.namespace": NAMESPACE}
        return known[source["fieldRef"]["fieldPath"]]
