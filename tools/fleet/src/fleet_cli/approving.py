"""Deciding on calls that wait for a person: what `fleet approve` asks the gateway for, over plain HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from rich.table import Column, Table
from rich.text import Text

from fleet_cli.errors import CallFailed

Verdict = Literal["approved", "denied"]
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call that waits, as the gateway shows it."""

    id: str
    nonce: str
    lines: tuple[str, ...]
    tool: str
    subject: str
    expires_at: datetime

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Waiting:
        """Return what the gateway's JSON says."""
        return cls(
            id=facts["id"],
            nonce=facts["nonce"],
            lines=tuple(facts["lines"]),
            tool=facts["tool"],
            subject=facts["subject"],
            expires_at=datetime.fromisoformat(facts["expires_at"]),
        )

    @property
    def remaining_s(self) -> int:
        """Return the seconds until it expires."""
        return max(0, round((self.expires_at - datetime.now(UTC)).total_seconds()))


def waiting_table(waiting: Sequence[Waiting]) -> Table:
    """Return one row for every call that waits, with the id that decides on it."""
    # Whole, since it is typed; the rest folds.
    table = Table(Column("id", no_wrap=True), box=None)
    for name in ("what", "tool", "asked for by", "expires in"):
        table.add_column(name, overflow="fold")
    for each in waiting:
        # Text: what a record says is no markup of ours.
        cells = (each.lines[0], each.tool, each.subject, f"{each.remaining_s} s")
        table.add_row(each.id, *map(Text, cells))
    return table


class Gateway:
    """The gateway's `/approve`, as one person."""

    def __init__(self, url: str, key: str) -> None:
        self._url = urlsplit(url)
        self._key = key

    def waiting(self) -> list[Waiting]:
        """Return every call that waits in the person's tenant.

        Raises:
            CallFailed: nobody answers, or the key may not approve.
        """
        return [Waiting.of(each) for each in self._ask("GET", "")["approvals"]]

    def look(self, id_: str) -> Waiting:
        """Return one call that waits.

        Raises:
            CallFailed: it does not wait any more, nobody answers, or the key may not approve.
        """
        return Waiting.of(self._ask("GET", f"/{quote(id_, safe='')}"))

    def decide(self, seen: Waiting, verdict: Verdict) -> None:
        """Decide on exactly what was seen.

        Raises:
            CallFailed: it was asked for anew or decided meanwhile, or as in `look`.
        """
        self._ask("POST", f"/{seen.id}", {"nonce": seen.nonce, "verdict": verdict})

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        tls = self._url.scheme == "https"
        kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
        connection = kind(self._url.netloc, timeout=_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json"}
        try:
            sent = json.dumps(body) if body is not None else None
            connection.request(method, f"{self._url.path.rstrip('/')}/approve{path}", sent, headers)
            answer = connection.getresponse()
            told: dict[str, Any] = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as exc:
            hint = "`fleet status` tells whether the fleet runs; --gateway names another one."
            raise CallFailed(f"{self._url.geturl()} could not be asked: {exc}", hint=hint) from exc
        finally:
            connection.close()
        if answer.status != 200:
            error = told.get("error", {})
            raise CallFailed(
                str(error.get("message", f"the gateway answered {answer.status}")),
                hint=error.get("hint"),
            )
        return told
