"""The model of a tenant that has not trained one: what salespeople agree on, as careful weights.

Referrals and high ranks convert more often, conversations more than mails, and silence is a bad sign. The bias is
that of 12 in 100 leads.
"""

from __future__ import annotations

import math

from fleet_data.scoring.models import LeadModel, Weight

_WEIGHTS = (
    ("source=referral", 0.6, 0.15),
    ("source=partner", 0.4, 0.08),
    ("source=event", 0.2, 0.15),
    ("source=advert", -0.3, 0.07),
    ("seniority=executive", 0.4, 0.25),
    ("seniority=head", 0.3, 0.25),
    ("seniority=specialist", -0.3, 0.25),
    ("mail=free", -0.5, 0.2),
    ("phone.known", 0.2, 0.5),
    ("status=qualified", 1.2, 0.15),
    ("status=working", 0.2, 0.35),
    ("status=unqualified", -3.0, 0.1),
    ("calls.count", 0.3, 0.5),
    ("meetings.count", 0.6, 0.3),
    ("emails.count", 0.15, 0.7),
    ("visits.count", 0.2, 0.3),
    ("recent.count", 0.4, 0.4),
    ("meetings.days", -0.1, 3.5),
    ("emails.days", -0.1, 3.2),
)

BUILT_IN = LeadModel(
    version=0,
    bias=math.log(0.12 / 0.88),
    weights=tuple(Weight(name, weight, mean) for name, weight, mean in _WEIGHTS),
)
