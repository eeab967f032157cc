from __future__ import annotations

import time

from fleet_data.ids import uuid7


def test_id_is_of_version_7_and_the_rfc_variant() -> None:
    made = uuid7()
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"


def test_later_id_sorts_after_an_earlier_one() -> None:
    assert uuid7(at_ms=1_000).hex < uuid7(at_ms=1_001).hex


def test_same_bits_give_the_same_id() -> None:
    first, second = (uuid7(at_ms=5, random_bits=lambda n: n) for _ in range(2))
    assert first == second


def test_ids_of_the_same_millisecond_sort_as_they_were_made() -> None:
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_an_id_tells_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    moment = uuid7().int >> 80
    assert before <= moment <= time.time_ns() // 1_000_000 + 1
