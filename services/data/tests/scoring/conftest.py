"""Leads whose outcome follows from what is known of them, more or less."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fleet_data.scoring.models import Example, Facts, sigmoid

MakeExamples = Callable[[int], list[Example]]


def examples_of(count: int) -> list[Example]:
    chance = random.Random(7)
    return [_example(chance, index) for index in range(count)]


def _example(chance: random.Random, index: int) -> Example:
    source = chance.choice(("web", "referral"))
    amounts = {"meetings.count": float(chance.randint(0, 4)), "calls.count": chance.random() * 5}
    truth = -2.0 + 1.5 * (source == "referral") + 0.7 * amounts["meetings.count"]
    facts = Facts(f"lead{index:05}", {"source": source}, amounts)
    return Example(facts, chance.random() < sigmoid(truth))


@pytest.fixture(scope="session")
def make_examples() -> MakeExamples:
    """Makes examples in which referrals and meetings decide: `make_examples(500)`."""
    return examples_of
