"""Posting a message: after a person agreed, and with a key at most once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from fleet_common.approvals import Plan
from fleet_common.errors import DeadlineExceeded, FleetError, Unavailable, UpstreamFailed
from fleet_common.http import CircuitOpen
from fleet_common.idempotency import KeyedCall
from fleet_data.claims import Caller
from fleet_data.connectors.credentials import Credentials
from fleet_data.connectors.slack.answers import told
from fleet_data.connectors.slack.repository import PostRepository

_TOOL = "connector_slack_post"
# After these the message may have been posted: the answer is what is missing.
_AMBIGUOUS = (Unavailable, DeadlineExceeded, UpstreamFailed)
_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


@dataclass(frozen=True, slots=True)
class Message:
    """One call of connector_slack_post."""

    caller: Caller
    channel: str
    text: str
    key: str | None = None

    @property
    def keyed(self) -> KeyedCall | None:
        """Return the call that the key names."""
        if self.key is None:
            return None
        told_ = [self.channel, self.text]
        return KeyedCall.of(self.caller.tenant, self.caller.subject, _TOOL, self.key, told_)


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a message.

    Attributes:
        state: `unknown` when the answer got lost: it may be there, so do not repeat it.
        channel: its id.
        ts: Slack's name of the message in the channel.
    """

    state: Literal["posted", "unknown"]
    channel: str | None = None
    ts: str | None = None


@dataclass(frozen=True, slots=True)
class Slack:
    """The workspaces of all tenants."""

    credentials: Credentials
    store: PostRepository

    async def plan(self, message: Message) -> Plan | None:
        """Return what posting would do; None for a message that was posted before.

        Raises:
            NotConnected: the tenant connected no workspace.
            KeyReused: the key was used for another message.
        """
        if message.keyed and await self.store.answered(message.caller, message.keyed):
            return None
        account = await self.credentials.account("slack", message.caller)
        return Plan(
            summary=f"Post to {message.channel} in Slack as {account.label}",
            details={"text": message.text},
            object_version=str(account.id),
        )

    async def post(self, message: Message) -> Posted:
        """Post the message, once where it has a key.

        Raises:
            FleetError: it was not posted; repeating the call with the same key is safe.
        """
        keyed = message.keyed
        async with self.credentials.session("slack", message.caller) as http:
            if keyed and (before := await self.store.begin(message.caller, keyed)):
                return Posted(**before)
            try:
                reply = await http.post("/api/chat.postMessage", json=_body(message))
                facts = told(reply)
            except FleetError as exc:
                if isinstance(exc, _AMBIGUOUS) and not isinstance(exc, CircuitOpen):
                    return Posted("unknown")
                if keyed:
                    await self.store.settle(message.caller, keyed, None)
                raise
        posted = Posted("posted", str(facts["channel"]), str(facts["ts"]))
        if keyed:
            await self.store.settle(message.caller, keyed, asdict(posted))
        return posted


def _body(message: Message) -> dict[str, object]:
    # Escaped, the text calls nobody by `<!channel>` and hides no link; unfurled, a link would be fetched by Slack.
    text = "".join(_ESCAPED.get(char, char) for char in message.text)
    return {
        "channel": message.channel,
        "text": text,
        "unfurl_links": False,
        "unfurl_media": False,
    }
