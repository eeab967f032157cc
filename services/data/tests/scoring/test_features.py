from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_data.scoring.builtin import BUILT_IN
from fleet_data.scoring.features import facts_of, mail_kind, score, seniority, size
from fleet_data.scoring.models import Facts, LeadModel, Weight
from fleet_data.scoring.reasons import GROUPS, explain

FINITE = st.floats(-5, 5)
GROUP = st.sampled_from(sorted(GROUPS))
WEIGHTS = st.lists(
    st.builds(
        Weight,
        st.one_of(GROUP.map(lambda g: f"{g}=x"), GROUP.map(lambda g: f"{g}.count")),
        FINITE,
        FINITE,
    ),
    max_size=8,
)
FACTS = st.builds(
    Facts,
    st.just("lead"),
    st.dictionaries(GROUP, st.sampled_from(["x", "y"])).map(lambda t: {"status": "new", **t}),
    st.dictionaries(GROUP.map(lambda g: f"{g}.count"), st.floats(0, 1e6)).map(
        lambda a: {"age.days": 1.0, "status.days": 1.0, "recent.count": 0.0, **a}
    ),
)
ROW: dict[str, Any] = {
    "id": "a",
    "source": "web",
    "title": None,
    "country": None,
    "has_phone": True,
    "mail_domain": "",
    "industry": None,
    "employees": None,
    "age_days": 12.0,
    "status": "new",
    "status_days": None,
    **dict.fromkeys(("calls", "meetings", "emails", "visits", "recent", "notes", "tasks"), 0),
    **dict.fromkeys(("calls_days", "meetings_days", "emails_days", "visits_days")),
}


@given(
    FINITE, WEIGHTS, FACTS, st.integers(1, 16), st.sets(st.sampled_from(["title", "lead.email"]))
)
def test_reasons_always_add_up(
    bias: float, weights: list[Weight], facts: Facts, most: int, masks: set[str]
) -> None:
    model = LeadModel(1, bias, tuple(weights))
    scored = score(model, facts)
    assert scored.logit == pytest.approx(bias + sum(scored.contributions.values()), abs=1e-9)
    expected = 1 / (1 + math.exp(-max(-700.0, scored.logit)))
    assert scored.probability == pytest.approx(expected, abs=1e-12)
    why = explain(scored, bias=bias, most=most, masks=frozenset(masks))
    assert why.logit == pytest.approx(
        why.base + sum(p for _, p in why.reasons) + why.other, abs=1e-9
    )
    assert len(why.reasons) <= most


def test_reasons_are_words_and_the_weightiest_come_first() -> None:
    facts = facts_of({**ROW, "title": "Head of IT", "meetings": 2, "meetings_days": 3.2})
    why = explain(score(BUILT_IN, facts), bias=BUILT_IN.bias, most=16)
    words = dict(why.reasons)
    assert words["2 meetings, the last 3 days ago"] > 0
    assert words["rank of the job title: head"] > 0
    assert "no mail so far" in words
    sizes = [abs(points) for _, points in why.reasons]
    assert sizes == sorted(sizes, reverse=True)


def test_masked_field_is_no_reason_but_still_counts() -> None:
    facts = facts_of({**ROW, "title": "CEO", "mail_domain": "gmail.com"})
    scored = score(BUILT_IN, facts)
    told = explain(scored, bias=BUILT_IN.bias, most=16)
    masked = explain(scored, bias=BUILT_IN.bias, most=16, masks=frozenset({"email", "lead.title"}))
    missing = {words for words, _ in told.reasons} - {words for words, _ in masked.reasons}
    assert missing == {"rank of the job title: executive", "mail address: free"}
    assert masked.logit == told.logit


def test_silence_counts_from_the_beginning() -> None:
    facts = facts_of(ROW)
    assert facts.amounts["calls.days"] == facts.amounts["status.days"] == 12.0
    assert facts.traits == {"source": "web", "status": "new"}


@pytest.mark.parametrize(
    ("title", "rank"),
    [
        ("Chief Executive Officer", "executive"),
        ("CFO", "executive"),
        ("Vice President Sales", "head"),
        ("Head of IT", "head"),
        ("Plant Manager", "manager"),
        ("Data Engineer", "specialist"),
        ("  ", None),
        (None, None),
    ],
)
def test_seniority_of_a_title(title: str | None, rank: str | None) -> None:
    assert seniority(title) == rank


def test_size_and_mail_are_classes() -> None:
    assert [size(n) for n in (None, 9, 10, 999, 1000)] == [
        *(None, "1 to 9", "10 to 49", "250 to 999", "1000 or more")
    ]
    assert [mail_kind(d) for d in (None, "", "gmail.com", "acme.example")] == [
        *(None, None, "free", "business")
    ]


def test_built_in_model_uses_only_groups_that_can_be_told() -> None:
    assert {each.group for each in BUILT_IN.weights} <= GROUPS.keys()
