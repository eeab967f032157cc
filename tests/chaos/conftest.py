"""A fleet with three replicas of every process on one PostgreSQL and one Valkey, all of which can be killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleet_cli.engines.freeport import free_port
from fleet_cli.engines.postgres import Postgres
from fleet_cli.engines.valkey import Valkey
from fleet_cli.environment import DATABASE, Environment
from fleet_cli.forking import ForkServer
from fleet_cli.ports import SERVICES, Ports
from fleet_cli.processes import Child
from fleet_cli.secrets import ensure_secrets
from fleet_cli.startup import PRELOADED, create_database, is_ready
from fleet_cli.state import State
from fleet_data.settings import Settings

REPLICAS = 3
START_S = 90.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is here takes minutes and runs by `make chaos`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(1200))


@dataclass
class Process:
    """A process that comes back under the same address when it starts again."""

    service: str
    launch: Callable[[], Child]
    child: Child = field(init=False)

    def start(self) -> None:
        self.child = self.launch()

    def kill_and_restart(self) -> None:
        """Lose the process as a node that dies loses it, and start it as Kubernetes would."""
        self.child.popen.kill()
        self.child.popen.wait(10)
        self.start()


@dataclass
class Replica(Process):
    """One process of a service."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Replicas:
    """The processes of the fleet, engines included."""

    def __init__(self, home: Path) -> None:
        self.state = State(home / "project")
        self.state.project.mkdir()
        self.state.ensure()
        self.ports = {service: [free_port() for _ in range(REPLICAS)] for service in SERVICES}
        engines = {"postgres": free_port(), "valkey": free_port()}
        numbers = {**{name: ports[0] for name, ports in self.ports.items()}, **engines}
        secrets = ensure_secrets(self.state)
        self.environment = Environment(self.state, Ports(numbers), secrets, dict(os.environ))
        self.key = secrets.admin_key
        self.postgres = Postgres(
            home=home / "postgres",
            port=engines["postgres"],
            password=secrets.postgres,
            log=self.state.log("postgres"),
        )
        self.valkey = Valkey(
            home=home / "valkey",
            port=engines["valkey"],
            password=secrets.valkey,
            log=self.state.log("valkey"),
        )
        self.engines = [
            Process("postgres", self.postgres.start),
            Process("valkey", self.valkey.start),
        ]
        self.forkserver = ForkServer(PRELOADED, log=self.state.log("forkserver"))
        self.all = [
            self._replica(service, number) for service in SERVICES for number in range(REPLICAS)
        ]

    @property
    def database_url(self) -> str:
        """The superuser's DSN of the CRM."""
        return self.postgres.url(DATABASE)

    def start_engines(self) -> None:
        for engine in self.engines:
            engine.start()

    def stop_engines(self) -> None:
        for engine in self.engines:
            engine.child.stop()

    def lose_postgres(self) -> None:
        """Kill the database without a word, and start it as its operator would."""
        self.engines[0].kill_and_restart()

    def of(self, service: str) -> list[Replica]:
        return [replica for replica in self.all if replica.service == service]

    def prepare(self) -> None:
        """Create the database, its schema and the tenant that the key belongs to."""
        create_database(self.postgres.url(), DATABASE)
        for words in (["migrate"], ["tenant", "demo"]):
            subprocess.run(
                [sys.executable, "-m", "fleet_data", *words],
                env=self.environment.for_migration(),
                check=True,
                timeout=60,
            )

    def start(self) -> None:
        """Start every replica and return when all are ready."""
        for replica in self.all:
            replica.start()
        ends = time.monotonic() + START_S
        for replica in self.all:
            while not is_ready(replica.port):
                assert time.monotonic() < ends, replica.child.last_words(40)
                time.sleep(0.1)

    def stop(self) -> None:
        for replica in self.all:
            if hasattr(replica, "child"):
                replica.child.popen.kill()
        self.forkserver.child.stop()

    def _replica(self, service: str, number: int) -> Replica:
        port = self.ports[service][number]
        env = {**self.environment.of(service), f"FLEET_{service.upper()}_PORT": str(port)}
        if service == "gateway":
            env["FLEET_GATEWAY_SERVICES"] = ",".join(self._backends())
        if service == "aiml":  # an embedded vector store has one owner
            env["FLEET_AIML_VECTOR_PATH"] = str(self.state.path / f"vectors-{number}")
        log = self.state.log(f"{service}-{number}")
        module = [f"fleet_{service}", "serve"]

        def launch() -> Child:
            return self.forkserver.start(service, module, log=log, env=env, cwd=self.state.project)

        return Replica(service, launch, port)

    def _backends(self) -> list[str]:
        return [
            f"{service}=http://127.0.0.1:{port}"
            for service, ports in self.ports.items()
            if service != "gateway"
            for port in ports
        ]


@contextmanager
def killing(victims: list[Process], *, every_s: float, seed: int) -> Iterator[list[str]]:
    """Kill one of `victims` at random every `every_s` seconds; yields the services that were hit."""
    dice, over, hit = random.Random(seed), threading.Event(), []

    def kill() -> None:
        while not over.wait(every_s):
            victim = dice.choice(victims)
            victim.kill_and_restart()
            hit.append(victim.service)

    killer = threading.Thread(target=kill, name="killer")
    killer.start()
    try:
        yield hit
    finally:
        over.set()
        killer.join()


@pytest.fixture(scope="session")
def replicas() -> Iterator[Replicas]:
    # PostgreSQL's own user must get there: pytest's tmp_path is closed to it.
    with tempfile.TemporaryDirectory(prefix="fleet-chaos-") as folder, ExitStack() as stack:
        Path(folder).chmod(0o711)
        fleet = Replicas(Path(folder))
        stack.callback(fleet.stop)
        fleet.start_engines()
        stack.callback(fleet.stop_engines)
        fleet.prepare()
        fleet.start()
        yield fleet


@pytest.fixture(name="killing")
def killing_fixture() -> Callable[..., object]:
    return killing


@contextmanager
def _data_worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    told = settings.model_dump(exclude_defaults=True, exclude={"tasks_worker", "migrator_url"})
    env = {f"FLEET_DATA_{name.upper()}": _text(value) for name, value in told.items()}
    env |= {"FLEET_DATA_PORT": str(free_port()), "PATH": os.environ["PATH"]}
    with log.open("ab") as output:
        command = [sys.executable, "-m", "fleet_data", "worker"]
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)


@pytest.fixture
def data_worker() -> Callable[[Settings, Path], AbstractContextManager[subprocess.Popen[bytes]]]:
    """Runs `python -m fleet_data worker` while a block runs; what it says is added to the log."""
    return _data_worker
