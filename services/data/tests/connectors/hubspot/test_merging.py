from __future__ import annotations

from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_data.connectors.hubspot.merging import merge
from fleet_data.connectors.hubspot.models import Winner

NAMES = ("a", "b", "c")
VALUES = st.sampled_from([None, "x", "y", 1])
RECORDS = st.fixed_dictionaries(dict.fromkeys(NAMES, VALUES))
UNDERSTOOD = st.dictionaries(st.sampled_from(NAMES), VALUES)
WINNERS = st.sampled_from(get_args(Winner))


@settings(max_examples=60)
@given(base=st.none() | RECORDS, ours=RECORDS, theirs=RECORDS, winner=WINNERS)
def test_after_one_exchange_both_sides_are_the_same_and_no_change_is_lost_unseen(
    base: dict[str, Any] | None, ours: dict[str, Any], theirs: dict[str, Any], winner: Winner
) -> None:
    merged = merge(NAMES, base, ours, theirs, winner=winner)
    here, there = {**ours, **merged.incoming}, {**merged.base, **merged.outgoing}
    assert here == there
    before = base or dict.fromkeys(NAMES)
    for name in NAMES:
        for changed in {ours[name], theirs[name]} - {before[name], here[name]}:
            clash = merged.clashes[name]
            assert changed in {clash.crm, clash.hubspot}
    again = merge(NAMES, there, here, there, winner=winner)
    assert (again.incoming, again.outgoing, again.clashes) == ({}, {}, {})


@settings(max_examples=60)
@given(base=st.none() | RECORDS, ours=RECORDS, theirs=UNDERSTOOD, winner=WINNERS)
def test_what_is_not_understood_is_never_overwritten_here(
    base: dict[str, Any] | None, ours: dict[str, Any], theirs: dict[str, Any], winner: Winner
) -> None:
    merged = merge(NAMES, base, ours, theirs, winner=winner)
    unknown = set(NAMES) - theirs.keys()
    assert not unknown & merged.clashes.keys()
    if base is None or all(base[name] == ours[name] for name in unknown):
        assert not unknown & (merged.incoming.keys() | merged.outgoing.keys())


def test_people_who_change_different_fields_do_not_clash() -> None:
    base = {"a": "1", "b": "1", "c": "1"}
    merged = merge(NAMES, base, {**base, "a": "2"}, {**base, "b": "2"}, winner="hubspot")
    assert (merged.incoming, merged.outgoing, merged.clashes) == ({"b": "2"}, {"a": "2"}, {})


def test_the_winners_value_stays_and_both_are_told() -> None:
    base, ours, theirs = {"a": "1"}, {"a": "2"}, {"a": "3"}
    for winner, here in (("hubspot", "3"), ("crm", "2")):
        merged = merge(["a"], base, ours, theirs, winner=winner)  # type: ignore[arg-type]
        assert {**ours, **merged.incoming}["a"] == here
        (clash,) = merged.clashes.values()
        assert (clash.base, clash.crm, clash.hubspot) == ("1", "2", "3")
