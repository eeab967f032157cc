"""`fleet connect-account` and its siblings: accounts at other services, connected by a person in a browser.

The service that keeps the accounts does all of it; this command opens the page and waits. It sees no token. A key, for
services without OAuth, is read from stdin or a prompt and goes straight to that page, never through a tool's arguments.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import click
from rich.table import Table
from rich.text import Text

from fleet_cli.errors import BadInput, CallFailed

if TYPE_CHECKING:
    from fastmcp.client.client import CallToolResult

    from fleet_cli.__main__ import Here

_TIMEOUT_S = 60.0
_POLL_S = 1.0
_SHOWN = ("provider", "state", "account", "connected_by", "connected_at")


@dataclass(frozen=True, slots=True)
class Fleet:
    """The service's tools, as one caller."""

    url: str
    key: str

    def call(self, tool: str, **arguments: str) -> CallToolResult:
        """Return what a tool answered.

        Raises:
            CallFailed: it refused, or nobody answers.
        """
        # Imported here: FastMCP's client costs over a second, and only commands that call need it.
        from fleet_cli.calling import call_tool, text_of  # noqa: PLC0415

        result = asyncio.run(
            call_tool(self.url, self.key, tool, arguments, timeout_s=_TIMEOUT_S, asked=_asked)
        )
        if result.is_error:
            raise CallFailed(text_of(result))
        return result

    def accounts(self) -> list[dict[str, Any]]:
        """Return every service and whose account is connected, as the caller may know it."""
        from fleet_cli.calling import text_of  # noqa: PLC0415

        told = json.loads(text_of(self.call("connector_status")))
        return [dict(zip(told["columns"], row, strict=True)) for row in told["rows"]]

    def wait_for(self, id_: str, *, patience_s: float) -> dict[str, Any]:
        """Return the account with this id, as soon as somebody finished connecting it.

        Raises:
            CallFailed: nobody did in time.
        """
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            for each in self.accounts():
                if each["id"] == id_:
                    return each
            time.sleep(_POLL_S)
        raise CallFailed("Nobody finished connecting it in time.", hint="Run the command again.")


@click.command("connect-account")
@click.argument("provider")
@click.option("--no-browser", is_flag=True, help="Print the page's address and open nothing.")
@click.option(
    "--service", type=click.Choice(["gateway", "data"]), default="gateway", help="Whose URL."
)
@click.pass_obj
def connect_account(here: Here, provider: str, service: str, *, no_browser: bool) -> None:
    """Connect an account at PROVIDER (google, hubspot, linkedin, slack, stripe) for the tenant of the caller's key."""
    fleet = Fleet(here.ports().url(service), here.key())
    started = fleet.call("connector_connect", provider=provider).structured_content or {}
    if started["how"] == "key":
        _send_key(started["url"], _typed_key(started["hint"]))
    else:
        _show_page(started["url"], webbrowser.open if not no_browser else None)
    account = fleet.wait_for(started["id"], patience_s=float(started["expires_s"]))
    click.echo(f"Connected: {_plain(account['account'])} ({provider}).")


@click.command("accounts")
@click.option(
    "--service", type=click.Choice(["gateway", "data"]), default="gateway", help="Whose URL."
)
@click.pass_obj
def accounts(here: Here, service: str) -> None:
    """Show the services that accounts can be connected of, and whose are."""
    table = Table(*_SHOWN, box=None)
    for each in Fleet(here.ports().url(service), here.key()).accounts():
        # Text: what somebody calls himself is no markup of ours.
        table.add_row(*(Text(_plain(str(each[name] or ""))) for name in _SHOWN))
    here.console.print(table)


@click.command("disconnect-account")
@click.argument("provider")
@click.option(
    "--service", type=click.Choice(["gateway", "data"]), default="gateway", help="Whose URL."
)
@click.pass_obj
def disconnect_account(here: Here, provider: str, service: str) -> None:
    """Give the consent at PROVIDER back and forget the account. Asks first."""
    fleet = Fleet(here.ports().url(service), here.key())
    told = fleet.call("connector_disconnect", provider=provider).structured_content or {}
    click.echo(f"Disconnected: {told['account']} ({provider}).")
    if not told["revoked"]:
        click.echo(
            f"{provider} did not confirm it: end it in the account's own settings, too.", err=True
        )


def _asked(question: str) -> bool:
    """Return a person's answer to what the service asks; whoever has no terminal is none."""
    return sys.stdin.isatty() and click.confirm(f"{question}\nGo ahead?", err=True)


def _show_page(url: str, opens: Callable[[str], bool] | None) -> None:
    click.echo(f"Open this page and agree there, within ten minutes:\n\n{url}\n", err=True)
    if opens is not None:
        opens(url)
    click.echo("Waiting…", err=True)


def _typed_key(hint: str) -> str:
    if sys.stdin.isatty():
        click.echo(hint, err=True)
        return str(click.prompt("Key", hide_input=True, err=True))
    key = sys.stdin.readline().strip()
    if not key:
        raise BadInput("There is no key on stdin", hint=hint)
    return key


def _send_key(url: str, key: str) -> None:
    """Post a key to the page that waits for it.

    Raises:
        CallFailed: it was refused, or nobody answers.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost", "::1"}:
        raise CallFailed("The service wants the key without encryption.", hint="It was not sent.")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=_TIMEOUT_S)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
    }
    try:
        body = urlencode({"key": key})
        connection.request("POST", f"{parts.path}?{parts.query}", body, headers)
        reply = connection.getresponse()
        told = json.loads(reply.read() or b"{}")
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise CallFailed("The service could not be reached with the key.") from exc
    finally:
        connection.close()
    if reply.status != 200:
        raise CallFailed(
            str(told.get("message", f"The service answered {reply.status}.")), hint=told.get("hint")
        )


def _plain(text: str) -> str:
    """Return what a fenced text says, for a person."""
    return text.removeprefix("<untrusted>").removesuffix("</untrusted>")
