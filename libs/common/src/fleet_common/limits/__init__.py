"""Rate limits and daily quotas: exact across replicas through Redis, this replica's share while Redis is away."""

from fleet_common.limits.buckets import Bucket, Plan, Verdict
from fleet_common.limits.calls import CallLimits
from fleet_common.limits.limiter import Limiter
from fleet_common.limits.replicas import Replicas

__all__ = ["Bucket", "CallLimits", "Limiter", "Plan", "Replicas", "Verdict"]
