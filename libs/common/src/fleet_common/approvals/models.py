"""Nouns of approvals: what a call would do, what exactly is asked for, and what waits for a person."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from fleet_common.auth import Principal
from fleet_common.digests import digest_of
from fleet_common.errors import PermissionDenied
from fleet_common.policy import APPROVE_SCOPE, Policy, Target, decide

LIFETIME = timedelta(minutes=5)
"""How long an approval can be given and used, counted from the plan."""

Verdict = Literal["approved", "denied"]

_MOST_DETAILS = 20
_MOST_CHARS = 300


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call would do, found out without doing it.

    Attributes:
        summary: one sentence in the server's words, such as "Delete the contact Ada Lovelace".
        details: what else a person should see before deciding, by label.
        object_version: version of what would change. An approval holds for this version only, and the tool
            checks it again in the transaction of the change (`CurrentPlan`). None when there is no object yet.
    """

    summary: str
    details: Mapping[str, str] = field(default_factory=dict)
    object_version: str | None = None

    def lines(self) -> list[str]:
        """Return the plan for a person, a line each; no value can look like another line."""
        details = list(self.details.items())[:_MOST_DETAILS]
        return [
            one_line(self.summary),
            *(f"{one_line(label)}: {one_line(text)}" for label, text in details),
        ]


@dataclass(frozen=True, slots=True)
class Ask:
    """One call that needs an approval, and the plan that a person decides on."""

    tenant: str
    subject: str
    tool: str
    arguments_sha256: str
    plan: Plan

    @classmethod
    def of(cls, principal: Principal, tool: str, arguments: Mapping[str, Any], plan: Plan) -> Ask:
        """Return what `principal` asks for."""
        return cls(principal.tenant, principal.subject, tool, digest_of(arguments), plan)

    @property
    def binding(self) -> str:
        """Return what an approval is bound to: caller, tool, arguments and version of the object, as a digest."""
        version = self.plan.object_version
        return digest_of([self.tenant, self.subject, self.tool, self.arguments_sha256, version])

    @property
    def id(self) -> str:
        """Return what people and records call it: the beginning of the binding."""
        return self.binding[:32]

    def message(self) -> str:
        """Return the question as a client shows it; the model that made the call has no word in it."""
        return "\n".join(
            [*self.plan.lines(), f"Asked for by {one_line(self.subject)} with {self.tool}."]
        )


@dataclass(frozen=True, slots=True)
class Request:
    """An ask that waits for a person.

    Attributes:
        id: what the person is given; it tells nobody anything and opens nothing.
        nonce: tells this request from a later one for the same call.
        second_person: the caller may not be the one who approves.
    """

    id: str
    nonce: str
    tenant: str
    subject: str
    tool: str
    lines: tuple[str, ...]
    second_person: bool
    expires_at: datetime

    @property
    def remaining_s(self) -> float:
        """Return the seconds in which it can still be approved and used."""
        return max(0.0, (self.expires_at - datetime.now(UTC)).total_seconds())


@dataclass(frozen=True, slots=True)
class Approver:
    """A person who may decide in a tenant; `of` is the only honest way to get one."""

    tenant: str
    subject: str

    @classmethod
    def of(cls, principal: Principal, policy: Policy) -> Approver:
        """Return who `principal` is to the desk.

        Raises:
            PermissionDenied: the policy does not let it approve.
        """
        target = Target("tool", "fleet_approve", APPROVE_SCOPE)
        if not decide(policy, principal, target).allowed:
            raise PermissionDenied(f"approving needs a role with the scope {APPROVE_SCOPE}")
        return cls(principal.tenant, principal.subject)


def one_line(text: str) -> str:
    """Return `text` on one line, cut, and without characters that hide or reorder others (Unicode class C)."""
    seen = "".join(
        " " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 2 * _MOST_CHARS]
    )
    line = " ".join(seen.split())
    return line if len(line) <= _MOST_CHARS else f"{line[:_MOST_CHARS]}…"
