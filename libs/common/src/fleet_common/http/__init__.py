"""Outbound HTTP: pooled clients with deadlines, safe retries and a circuit breaker."""

from fleet_common.http.breaker import Breaker
from fleet_common.http.client import client_on, open_client, open_transport
from fleet_common.http.retry import TRANSIENT_STATUSES, RetryPolicy
from fleet_common.http.transport import CircuitOpen

__all__ = [
    "TRANSIENT_STATUSES",
    "Breaker",
    "CircuitOpen",
    "RetryPolicy",
    "client_on",
    "open_client",
    "open_transport",
]
