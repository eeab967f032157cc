"""Webhooks: deliveries from providers, believed only when signed, and handled once.

A service declares them on its `Service`; `fleet_common.mcp` serves them at `POST /webhooks/{provider}`, and the
gateway carries them there.
"""

from fleet_common.webhooks.claims import ClaimHeld, Claims
from fleet_common.webhooks.models import Delivery, SignedRequest, Webhook
from fleet_common.webhooks.schemes import PROVIDERS, Scheme, SignatureRefused

__all__ = [
    "PROVIDERS",
    "ClaimHeld",
    "Claims",
    "Delivery",
    "Scheme",
    "SignatureRefused",
    "SignedRequest",
    "Webhook",
]
