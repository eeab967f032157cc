"""The one screen that `fleet run` ends with: what runs where, the key, and a configuration to paste."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from fleet_cli.connect import Endpoint, claude_code
from fleet_cli.ports import SERVICES, Ports

ABOUT = {
    "gateway": "all tools behind one URL",
    "data": "CRM and safe SQL on PostgreSQL",
    "devops": "GitHub, Kubernetes, Prometheus",
    "aiml": "document search, embeddings",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What the screen says.

    Attributes:
        warnings: sentences about what does not work, although the fleet runs.
    """

    project: Path
    ports: Ports
    key: str = field(repr=False)
    took_s: float
    warnings: tuple[str, ...] = ()

    def show(self, console: Console) -> None:
        """Print it."""
        console.print()
        console.print(Rule(self._title(), align="left", style="green"))
        console.print(Padding(self._urls(), (1, 2, 0, 2)))
        self._show_config(console)
        console.print(Padding(self._commands(), (1, 2, 0, 2)))
        for warning in self.warnings:
            console.print(Padding(Text(f"! {warning}", style="yellow"), (1, 2, 0, 2)))
        console.print(Padding(Text("Ctrl-C stops everything.", style="bold"), (1, 2)))

    def _title(self) -> Text:
        return Text.assemble(
            ("The fleet is running", "bold green"), (f"  ready in {self.took_s:.1f} s", "dim")
        )

    def _urls(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for service in SERVICES:
            url = Text(self.ports.url(service), style="cyan")
            table.add_row(Text(service, style="bold"), url, Text(ABOUT[service], style="dim"))
        table.add_row()
        # The key is longer than its column: it must stay on one line to be copied.
        return table

    def _show_config(self, console: Console) -> None:
        console.print(Text.assemble(("  key      ", "bold"), (self.key, "yellow")), soft_wrap=True)
        endpoint = Endpoint("fleet", "gateway", self.ports.url("gateway"), self.key, self.project)
        console.print(Padding(Text("Paste into .mcp.json for Claude Code:", style="bold"), (1, 2)))
        # Plain, unwrapped and without a frame: what is copied must be what the client reads.
        config = claude_code(endpoint, key=self.key).text
        console.print(config, markup=False, highlight=False, soft_wrap=True)

    def _commands(self) -> Table:
        fleet = fleet_command()
        table = Table.grid(padding=(0, 2))
        table.add_row("other clients", f"{fleet} connect cursor|vscode|codex|openai|inspector|json")
        table.add_row("try a tool", f'{fleet} call crm_search \'{{"query": "software"}}\'')
        table.add_row("look inside", f"{fleet} status · {fleet} logs data -f")
        return table


def fleet_command() -> str:
    """Return how the person can call us from where they are: by name, else by the shortest path."""
    ours = Path(sys.executable).with_name("fleet")
    found = shutil.which("fleet")
    if found and Path(found).resolve() == ours.resolve():
        return "fleet"
    relative = os.path.relpath(ours)
    return str(ours) if relative.startswith("..") else relative
