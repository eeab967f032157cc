"""The policy file of a process: read at start, followed while it runs, never worse than the last good version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import structlog

from fleet_common.auth.principal import Principal
from fleet_common.background import background
from fleet_common.policy.decision import Decision, Target, decide
from fleet_common.policy.models import Policy
from fleet_common.policy.source import BUILT_IN, MAX_BYTES, BadPolicy, Mistake, parse_policy
from fleet_common.settings import SettingsError

log = structlog.get_logger()

_LOOK_S = 1.0
_REMEMBERED = 8192  # answers; callers choose names of prompts and URIs, so there must be an end
_NOTHING = Policy(version=1)


class _InForce:
    """A policy and its answers; both are replaced together, so no answer outlives its policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._known: dict[tuple[Principal | None, Target], Decision] = {}

    def decide(self, principal: Principal | None, target: Target) -> Decision:
        question = (principal, target)
        known = self._known.get(question)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[question] = decide(self.policy, principal, target)
        return known


class PolicyFile:
    """What the policy is now.

    Without a path it is the built-in one. With a path it is what the file says, within a second of a change; a
    file that is gone or wrong leaves the last good version in force and the mistake in the log. Before the first
    reading nothing is allowed.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._in_force = _InForce(BUILT_IN if path is None else _NOTHING)
        self._stamp: tuple[int, int, int] | None = None

    @classmethod
    def fixed(cls, policy: Policy) -> PolicyFile:
        """Return what always says `policy`."""
        it = cls()
        it._in_force = _InForce(policy)
        return it

    @property
    def current(self) -> Policy:
        """The policy in force; never blocks."""
        return self._in_force.policy

    def decide(self, principal: Principal | None, target: Target) -> Decision:
        """Return what `decide` says under the policy in force, from memory where it was asked before."""
        return self._in_force.decide(principal, target)

    def load(self) -> Policy:
        """Read the file and return the policy that is in force from now on; blocks.

        Raises:
            BadPolicy: the file cannot be read or is wrong; what was in force stays so.
        """
        if self.path is not None:
            self._stamp = self._stamp_now()
            self._in_force = _InForce(parse_policy(_text(self.path), str(self.path)))
        return self.current

    def refresh(self) -> None:
        """Read the file again if it changed; mistakes go to the log; blocks."""
        if self.path is None or self._stamp_now() == self._stamp:
            return
        try:
            self.load()
        except BadPolicy as exc:
            mistakes = [str(mistake) for mistake in exc.mistakes[:10]]
            # No traceback: the mistakes and their lines say all there is.
            log.error("policy_rejected", path=str(self.path), mistakes=mistakes)  # noqa: TRY400
        else:
            self._tell()

    @asynccontextmanager
    async def followed(self) -> AsyncGenerator[None]:
        """Read the file, and again whenever it changes while the block runs.

        Raises:
            SettingsError: there is no good version to begin with.
        """
        if self.path is None:
            yield
            return
        try:
            await anyio.to_thread.run_sync(self.load)
        except BadPolicy as exc:
            raise SettingsError(f"the policy file is wrong: {exc.message}") from None
        self._tell()
        async with background(self._follow(), name="policy-file"):
            yield

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await anyio.to_thread.run_sync(self.refresh)

    def _tell(self) -> None:
        log.info("policy_loaded", path=str(self.path), roles=sorted(self.current.roles))

    def _stamp_now(self) -> tuple[int, int, int] | None:
        try:
            stat = self.path.stat() if self.path else None
        except OSError:
            return None
        return (stat.st_mtime_ns, stat.st_ino, stat.st_size) if stat else None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode("utf-8")
    except OSError as exc:
        raise BadPolicy(str(path), [Mistake(1, "", f"cannot be read ({exc.strerror})")]) from None
    except UnicodeDecodeError:
        raise BadPolicy(str(path), [Mistake(1, "", "not UTF-8")]) from None
