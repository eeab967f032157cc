"""`fleet registry` and `fleet routes`: verbs of the gateway's own command, told what the running fleet is told."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

_WORDS = {"ignore_unknown_options": True}

if TYPE_CHECKING:
    from fleet_cli.__main__ import Here


@click.command(context_settings=_WORDS)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def registry(here: Here, words: tuple[str, ...]) -> None:
    """Show which tool definitions are pinned and held back, or accept one: `list`, `accept SERVICE TOOL`."""
    _become(here, "registry", words)


@click.command(context_settings=_WORDS)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def routes(here: Here, words: tuple[str, ...]) -> None:
    """Print the routing table as HTTPRoutes: `export [--gateway NAME] [--namespace NAME] [--hostname HOST]`."""
    _become(here, "routes", words)


def _become(here: Here, verb: str, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "fleet_gateway", verb, *words]
    os.execve(sys.executable, command, here.environment().of("gateway"))  # noqa: S606 - no shell; our own interpreter
