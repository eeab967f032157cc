"""Every connector there is: a folder with a provider, and one line here."""

from __future__ import annotations

from fleet_data.connectors.google.provider import PROVIDER as GOOGLE
from fleet_data.connectors.hubspot.provider import PROVIDER as HUBSPOT
from fleet_data.connectors.linkedin.provider import PROVIDER as LINKEDIN

PROVIDERS = (GOOGLE, HUBSPOT, LINKEDIN)
