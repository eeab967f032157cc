"""Every connector there is: a folder with a provider, and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleet_data.connectors.google.provider import PROVIDER as GOOGLE
from fleet_data.connectors.hubspot.provider import PROVIDER as HUBSPOT
from fleet_data.connectors.linkedin.provider import PROVIDER as LINKEDIN
from fleet_data.connectors.slack.provider import PROVIDER as SLACK
from fleet_data.connectors.slack.tools import TOOLS as SLACK_TOOLS
from fleet_data.connectors.stripe.provider import PROVIDER as STRIPE
from fleet_data.connectors.stripe.tools import TOOLS as STRIPE_TOOLS

PROVIDERS = (GOOGLE, HUBSPOT, LINKEDIN, SLACK, STRIPE)
# Any: functions of all shapes, each made with `fastmcp.tools.tool`.
TOOLS: tuple[Callable[..., Any], ...] = (*SLACK_TOOLS, *STRIPE_TOOLS)
