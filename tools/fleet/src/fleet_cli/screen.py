"""The one screen that `fleet run` ends with: what runs where, the key, and a configuration to paste."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fleet_cli.connect import Endpoint, claude_code
from fleet_cli.ports import SERVICES, Ports
from fleet_cli.state import find_project

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
        """Print it: nothing is framed or wrapped, because most of it is there to be copied."""
        for line in (
            Text(),
            Text.assemble(
                ("The fleet is running", "bold green"), (f"  ready in {self.took_s:.1f} s", "dim")
            ),
            Text(),
            *self._urls(),
            Text.assemble(("  key      ", "bold"), (self.key, "yellow")),
            Text(),
            Text("Paste into .mcp.json for Claude Code:", style="bold"),
            Text(self._config()),
            Text(),
            *self._commands(),
            *(Text(f"! {warning}", style="yellow") for warning in self.warnings),
            Text(),
            Text("Ctrl-C stops everything.", style="bold"),
        ):
            console.print(line, soft_wrap=True)

    def _urls(self) -> list[Text]:
        width = max(len(self.ports.url(service)) for service in SERVICES)
        return [
            Text.assemble(
                (f"  {service:<9}", "bold"),
                (f"{self.ports.url(service):<{width}}", "cyan"),
                (f"  {ABOUT[service]}", "dim"),
            )
            for service in SERVICES
        ]

    def _config(self) -> str:
        endpoint = Endpoint("fleet", "gateway", self.ports.url("gateway"), self.key, self.project)
        return claude_code(endpoint, key=self.key).text

    def _commands(self) -> list[Text]:
        fleet = fleet_command(self.project)
        commands = {
            "Other clients": f"{fleet} connect cursor   (vscode, codex, openai, json, …)",
            "Try a tool": f"""{fleet} call crm_search '{{"object": "deal", "limit": 3}}'""",
            "Look inside": f"{fleet} status   and   {fleet} logs data -f",
        }
        return [
            Text.assemble((f"{label:<15}", "bold"), command) for label, command in commands.items()
        ]


def fleet_command(project: Path) -> str:
    """Return how the person can call us from where they are: by name, else by the shortest path."""
    command = shlex.quote(_program())
    if find_project(Path.cwd()) == project.resolve():
        return command
    return f"{command} --project {shlex.quote(str(project))}"


def _program() -> str:
    ours = Path(sys.executable).with_name("fleet")
    found = shutil.which("fleet")
    if found and Path(found).resolve() == ours.resolve():
        return "fleet"
    relative = os.path.relpath(ours)
    return str(ours) if relative.startswith("..") else relative
