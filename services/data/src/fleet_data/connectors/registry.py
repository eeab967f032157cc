"""Every connector there is: a folder with a provider, and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleet_data.connectors.google.provider import PROVIDER as GOOGLE
from fleet_data.connectors.hubspot.provider import PROVIDER as HUBSPOT
from fleet_data.connectors.linkedin.provider import PROVIDER as LINKEDIN

PROVIDERS = (GOOGLE, HUBSPOT, LINKEDIN)
# Any: functions of all shapes, each made with `fastmcp.tools.tool`.
TOOLS: tuple[Callable[..., Any], ...] = ()
