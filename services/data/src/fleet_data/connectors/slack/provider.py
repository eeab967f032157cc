"""Slack, by the token of a bot that may post and nothing else."""

from __future__ import annotations

import httpx

from fleet_data.connectors.models import Identity, PastedKey, Provider
from fleet_data.connectors.slack.answers import told


async def identify(http: httpx.AsyncClient) -> Identity:
    """Return the workspace, and the bot's name in it."""
    who = told(await http.post("/api/auth.test"))
    return Identity(str(who["team_id"]), f"{who['user']} in {who['team']}")


PROVIDER = Provider(
    name="slack",
    title="Slack",
    api_url="https://slack.com",
    identify=identify,
    key=PastedKey(
        pattern=r"xoxb-[\w-]+",
        hint="Make an app at api.slack.com/apps with the bot scope chat:write, install it, and take its bot token "
        "(xoxb-…).",
    ),
)
