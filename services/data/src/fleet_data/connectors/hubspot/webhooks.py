"""What HubSpot tells unasked: its events name records, and those are read anew."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import SecretStr

from fleet_common.errors import InvalidInput
from fleet_common.webhooks import Delivery, Webhook
from fleet_data.deps import Deps
from fleet_data.settings import Settings

_MOST_EVENTS = 1000


async def on_events(delivery: Delivery, deps: Deps) -> None:
    """Note which records are to be read anew; the worker does that.

    Raises:
        InvalidInput: the body is not a list of events.
    """
    events = delivery.json()
    if not isinstance(events, list) or len(events) > _MOST_EVENTS:
        raise InvalidInput("a list of events was expected")
    await deps.hubspot.hear([each for each in events if isinstance(each, dict)])


def _secrets(settings: Settings) -> Sequence[SecretStr]:
    return settings.hubspot_webhook_secrets


def _public_url(settings: Settings) -> str | None:
    return settings.hubspot_webhook_url


WEBHOOK = Webhook(provider="hubspot", secrets=_secrets, handle=on_events, public_url=_public_url)
