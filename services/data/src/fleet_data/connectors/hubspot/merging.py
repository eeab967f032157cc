"""Three ways: what both sides last agreed on, what we have, what HubSpot has.

A field that one side changed takes that change. A field that both changed to different values is a clash: the winner's
value stays, both values are reported. So two people who changed different fields of a record never clash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet_data.connectors.hubspot.models import Clash, Winner
from fleet_data.crm.models import Scalar


@dataclass(frozen=True, slots=True)
class Merged:
    """What a meeting comes to.

    Attributes:
        incoming: fields of ours to set.
        outgoing: fields that HubSpot is to be told.
        base: what HubSpot has, as far as we understand it: the base of the next meeting.
        clashes: fields that both sides had changed.
    """

    incoming: Mapping[str, Scalar]
    outgoing: Mapping[str, Scalar]
    base: Mapping[str, Scalar]
    clashes: Mapping[str, Clash]


def merge(
    names: Sequence[str],
    base: Mapping[str, Scalar] | None,
    ours: Mapping[str, Scalar],
    theirs: Mapping[str, Scalar],
    *,
    winner: Winner,
) -> Merged:
    """Merge the fields `names`; `theirs` lacks what we do not understand, `base` is None when they never met."""
    incoming: dict[str, Scalar] = {}
    outgoing: dict[str, Scalar] = {}
    agreed: dict[str, Scalar] = {}
    clashes: dict[str, Clash] = {}
    for name in names:
        mine = ours.get(name)
        # What nobody understands is as good as agreed on, until one of the two changes.
        other = theirs[name] if name in theirs else (base or {}).get(name, mine)
        agreed[name] = other
        if mine == other:
            continue
        # Of what never met, an empty value gives way.
        before = None if base is None else base.get(name)
        if before not in (mine, other):
            clashes[name] = Clash(before, mine, other)
        if mine == before or (name in clashes and winner == "hubspot"):
            incoming[name] = other
        else:
            outgoing[name] = mine
    return Merged(incoming, outgoing, agreed, clashes)
