"""Who is calling: principals, fleet keys stored as hashes, and the gateway's internal tokens."""

from fleet_common.auth.principal import Principal

__all__ = ["Principal"]
