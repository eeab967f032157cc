"""`fleet audit`: check the audit logs and read them."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.table import Column, Table

from fleet_cli.errors import BadInput
from fleet_cli.secrets import read_audit_key
from fleet_cli.state import State
from fleet_common.audit import verify
from fleet_common.audit.chain import Record
from fleet_common.audit.events import Decision
from fleet_common.audit.files import lines_of, logs_in, sequence
from fleet_common.audit.reading import Question, newest_first

if TYPE_CHECKING:
    from fleet_cli.__main__ import Here

KEY_VARIABLE = "FLEET_AUDIT_KEY"
_SHOWN_BYTES = 2000
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_COLUMNS = ("time", "service", "subject", "action", "target", "decision", "outcome", "rule")

_paths = click.argument(
    "paths", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path, dir_okay=False)
)


@click.group()
def audit() -> None:
    """Check the audit logs and read them."""


@audit.command("verify")
@_paths
@click.option("--partial", is_flag=True, help="Older files were archived: begin in the middle.")
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    help="A hash that must be there, from a log line audit_anchored.",
)
@click.pass_obj
def verify_logs(
    here: Here, paths: tuple[Path, ...], *, partial: bool, anchors: tuple[str, ...]
) -> None:
    """Find the first record that was edited, dropped, repeated or moved.

    Each FILE is read with what was put aside from it, oldest first; without FILE all logs of this project are checked.
    A keyed log needs its key: the project's own logs take the project's, others FLEET_AUDIT_KEY.
    """
    if anchors and len(paths) != 1:
        raise BadInput("An anchor belongs to one log", hint="Name its FILE.")
    checked = [
        _is_whole(path, _key(here.state, path), partial=partial, anchors=anchors)
        for path in _chosen(here.state, paths)
    ]
    sys.exit(0 if all(checked) else 1)


@audit.command("show")
@_paths
@click.option(
    "--since", help="How far back: 90s, 15m, 2h, 7d, or a time such as 2026-11-21T07:00Z."
)
@click.option("--subject", help="Whose calls, such as key:ab12cd34.")
@click.option("--tool", help="Name or glob of the tool, resource or prompt.")
@click.option("--decision", type=click.Choice(get_args(Decision)))
@click.option(
    "-n", "--lines", type=click.IntRange(1), default=50, show_default=True, help="Records at most."
)
@click.option("--json", "as_json", is_flag=True, help="Whole records, one a line.")
@click.pass_obj
def show(
    here: Here,
    /,
    paths: tuple[Path, ...],
    *,
    since: str | None,
    lines: int,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Show the newest records, oldest first. It does not check them: `fleet audit verify` does."""
    question = Question(since=_moment(since) if since else None, **wanted)
    chosen = _chosen(here.state, paths)
    found = [record for path in chosen for record in _newest(path, question, lines)]
    found = sorted(found, key=lambda record: str(record["time"]))[-lines:]
    if as_json:
        click.echo("".join(f"{json.dumps(record)}\n" for record in found), nl=False)
    else:
        here.console.print(_table(found))


@audit.command("schema")
def schema() -> None:
    """Print the SQL that makes the table of the sink `postgres`."""
    click.echo((files("fleet_common") / "postgres" / "audit.sql").read_text("utf-8"), nl=False)


def _chosen(state: State, paths: tuple[Path, ...]) -> list[Path]:
    found = list(paths) or logs_in(state.audit_folder)
    if not found:
        raise BadInput("There is no audit log here", hint="`fleet run` begins one, or name a FILE.")
    if missing := [path for path in paths if not sequence(path)]:
        raise BadInput(f"There is no {missing[0]}")
    return found


def _is_whole(path: Path, key: bytes | None, *, partial: bool, anchors: tuple[str, ...]) -> bool:
    verdict = verify(lines_of(sequence(path)), key=key, partial=partial, anchors=anchors)
    counted = f"{verdict.records} records of {verdict.chains} processes"
    click.echo(f"{path}: {counted} are as they were written")
    for gap in verdict.gaps:
        click.secho(f"  gap: {gap}", fg="yellow")
    if verdict.problem:
        click.secho(f"  {verdict.problem}", fg="red")
    if verdict.bad_line:
        click.echo(f"  {_printable(verdict.bad_line)}")
    return verdict.ok


def _printable(line: bytes) -> str:
    """Return what a terminal may be shown of a line that somebody has tampered with."""
    return ascii(line[:_SHOWN_BYTES])[2:-1]


def _key(state: State, path: Path) -> bytes | None:
    is_own = path.resolve().parent == state.audit_folder.resolve()
    key = read_audit_key(state) if is_own else os.environ.get(KEY_VARIABLE)
    return key.encode() if key else None


def _newest(path: Path, question: Question, most: int) -> list[Record]:
    return list(islice((each for each in newest_first(path, question) if each), most))


def _moment(text: str) -> datetime:
    """Return the moment that `text` names, or that lies so far back."""
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            f"{text!r} is no time", hint="Examples: 15m, 2h, 2026-11-21T07:00Z"
        ) from None
    return moment if moment.tzinfo else moment.astimezone()


def _table(records: list[Record]) -> Table:
    table = Table(*(Column(name, overflow="fold") for name in _COLUMNS), box=None)
    for record in records:
        cells = {**record, "time": str(record["time"])[:19]}
        table.add_row(*(str(cells.get(name, "")) for name in _COLUMNS))
    return table
