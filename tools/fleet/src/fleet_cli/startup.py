"""Starting a fleet: everything that does not wait for something else starts at once.

The longest chain is PostgreSQL, migrate, seed; the four services and Valkey start beside it, the services out of one
process that has imported what they share. `migrate`
and `seed` are skipped when the very same code has already run against the very same database, which is what makes a
warm start quick: the stamp beside the database holds the digest of both.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from fleet_cli import forking
from fleet_cli.engines.place import postgres_place
from fleet_cli.engines.postgres import Postgres
from fleet_cli.engines.valkey import Valkey
from fleet_cli.environment import DATABASE, Environment
from fleet_cli.errors import StartFailed
from fleet_cli.forking import ForkServer
from fleet_cli.ports import SERVICES
from fleet_cli.processes import Child
from fleet_cli.progress import Progress, working
from fleet_cli.state import write_private
from fleet_cli.supervisor import Supervisor

PRELOADED = "fleet_common.mcp.run"
READY_S = 60.0
MIGRATE_S = 120.0
_POLL_S = 0.05
_STAMP = "migrated.json"


class Stopped(Exception):
    """Raised in a starting thread when the fleet is being stopped."""


class Startup:
    """Starts the children of one fleet and waits until all answer."""

    def __init__(
        self, environment: Environment, supervisor: Supervisor, progress: Progress
    ) -> None:
        self._environment = environment
        self._supervisor = supervisor
        self._progress = progress
        self._state = environment.state
        self._stopping = threading.Event()
        self._forkserver = self._start_forkserver() if forking.AVAILABLE else None

    def run(self, should_stop: Callable[[], bool], then: Mapping[str, Callable[[], None]]) -> None:
        """Return when every process answers, and `then` has run what begins as soon as a service does.

        Raises:
            StartFailed: a process ended or was not ready in time.
            Stopped: `should_stop` said so first.
        """
        chains: list[Callable[[], None]] = [self._data]
        chains += [self._serving(service, then.get(service)) for service in self._others()]
        if self._environment.embeds_valkey:
            chains.append(self._valkey)
        with ThreadPoolExecutor(len(chains)) as pool:
            jobs = [pool.submit(chain) for chain in chains]
            while True:
                done, pending = wait(jobs, timeout=0.1, return_when=FIRST_EXCEPTION)
                failed = next((job for job in done if job.exception()), None)
                if failed or should_stop():
                    # Ends what is being started, and with it the threads that wait for it.
                    self._stopping.set()
                    self._supervisor.stop()
                if failed:
                    failed.result()
                if should_stop():
                    raise Stopped
                if not pending:
                    return

    def launch(self, service: str) -> Child:
        """Start a service."""
        module = [f"fleet_{service}", "serve"]
        log, env = self._state.rotated_log(service), self._environment.of(service)
        if self._forkserver is None:
            command = [sys.executable, "-m", *module]
            child = Child.start(service, command, log=log, env=env, cwd=self._state.project)
        else:
            child = self._forkserver.start(
                service, module, log=log, env=env, cwd=self._state.project
            )
        self._supervisor.adopt(child)
        return child

    def serve(self, service: str) -> None:
        """Start a service and return when it answers."""
        with working(self._progress, service):
            self._wait_ready(self.launch(service))

    def postgres(self) -> None:
        """Start the embedded PostgreSQL and return when it accepts connections."""
        with working(self._progress, "postgres") as step:
            server = self._postgres_server()
            step.note = "" if server.data.exists() else "creating the database"
            self._progress.changed(step)
            server.start(adopt=self._adopt_engine)

    def _start_forkserver(self) -> ForkServer:
        server = ForkServer(PRELOADED, log=self._state.rotated_log(forking.NAME))
        self._supervisor.adopt(server.child)
        return server

    def _others(self) -> Iterable[str]:
        return (service for service in SERVICES if service != "data")

    def _serving(self, service: str, then: Callable[[], None] | None) -> Callable[[], None]:
        def chain() -> None:
            self.serve(service)
            if then:
                then()

        return chain

    def _data(self) -> None:
        # The process starts beside its database: it connects when it is asked whether it is ready.
        data = self.launch("data")
        if self._environment.embeds_postgres:
            self.postgres()
        if self._environment.migrator_url is not None:
            self._migrate_and_seed()
        with working(self._progress, "data"):
            self._wait_ready(data)

    def _valkey(self) -> None:
        with working(self._progress, "valkey"):
            Valkey(
                home=self._state.path / "valkey",
                port=self._environment.ports["valkey"],
                password=self._environment.secrets.valkey,
                log=self._state.rotated_log("valkey"),
            ).start(adopt=self._supervisor.adopt)

    def _postgres_server(self) -> Postgres:
        return Postgres(
            home=postgres_place(self._state.path) / "server",
            port=self._environment.ports["postgres"],
            password=self._environment.secrets.postgres,
            log=self._state.rotated_log("postgres"),
        )

    def _adopt_engine(self, child: Child) -> None:
        self._supervisor.adopt(child)
        if child.name == "postgres":  # initdb has ended by then
            self._forget_ended()

    def _forget_ended(self) -> None:
        for child in self._supervisor.ended():
            if child.name == "initdb":
                self._supervisor.release(child)

    def _migrate_and_seed(self) -> None:
        stamp = postgres_place(self._state.path) / _STAMP
        digest = migration_digest(self._environment)
        if self._environment.embeds_postgres and _read_stamp(stamp) == digest:
            return
        if self._environment.embeds_postgres:
            create_database(self._postgres_server().url(), DATABASE)
        self._command("migrate")
        if self._environment.embeds_postgres:
            # Demo data belongs into our own database only, never into one that the user has named.
            self._command("seed")
            write_private(stamp, json.dumps({"digest": digest}))

    def _command(self, verb: str) -> None:
        with working(self._progress, verb):
            child = Child.start(
                verb,
                [sys.executable, "-m", "fleet_data", verb],
                log=self._state.rotated_log(verb),
                env=self._environment.for_migration(),
                cwd=self._state.project,
            )
            self._supervisor.adopt(child)
            self._wait_end(child, MIGRATE_S)
            self._supervisor.release(child)

    def _wait_end(self, child: Child, limit_s: float) -> None:
        until = time.monotonic() + limit_s
        while child.is_alive:
            self._pause(child, until)
        if child.popen.poll():
            raise StartFailed(obituary(child))

    def _wait_ready(self, child: Child) -> None:
        until = time.monotonic() + READY_S
        while not is_ready(self._environment.ports[child.name]):
            if not child.is_alive:
                raise StartFailed(obituary(child))
            self._pause(child, until)

    def _pause(self, child: Child, until: float) -> None:
        if self._stopping.wait(_POLL_S):
            raise Stopped
        if time.monotonic() > until:
            raise StartFailed(
                f"{child.name} was not ready in time.\n{indented(child.last_words())}"
            )


def is_ready(port: int) -> bool:
    """Whether the service on a loopback port says that it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def obituary(child: Child) -> str:
    """Return what a person has to know about a child that ended: how, and its last words."""
    code = child.popen.poll() or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    words = child.last_words()
    return f"{child.name} {how}. Its log ({child.log}) ends with:\n{indented(words or '(nothing)')}"


def indented(text: str) -> str:
    """Return `text` set off by two spaces."""
    return "\n".join(f"  {line}" for line in text.splitlines())


def migration_digest(environment: Environment) -> str:
    """Return a digest of everything that `migrate` and `seed` depend on: their code and the logins they set."""
    digest = hashlib.sha256()
    secrets = environment.secrets
    digest.update(f"{secrets.writer} {secrets.reader} {secrets.claims_key}".encode())
    # Located, not imported: the fleet command starts services as processes only.
    spec = importlib.util.find_spec("fleet_data")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        for path in sorted([*package.rglob("*.sql"), *package.rglob("*.py")]):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def create_database(admin_url: str, name: str) -> None:
    """Create a database unless it exists.

    Raises:
        StartFailed: the server was made with another password than ours.
    """
    # Costs 0.15 s of import, needed only for the first start.
    import asyncpg  # noqa: PLC0415

    async def create() -> None:
        connection = await asyncpg.connect(admin_url, timeout=10)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()

    try:
        asyncio.run(create())
    except asyncpg.InvalidAuthorizationSpecificationError as exc:
        raise StartFailed(
            "PostgreSQL refuses the password in .fleet/secrets.json: the file was made anew.",
            hint="Put the old file back, or remove .fleet to begin with an empty database.",
        ) from exc


def _read_stamp(path: Path) -> str | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("digest") if isinstance(found, dict) else None
