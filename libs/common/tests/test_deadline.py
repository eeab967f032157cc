from __future__ import annotations

import pytest

from fleet_common.deadline import deadline, remaining
from fleet_common.errors import DeadlineExceeded


def test_without_a_deadline_a_step_may_take_its_own_time() -> None:
    assert remaining(7.0) == 7.0


def test_a_step_gets_no_more_than_the_call_has_left() -> None:
    with deadline(2.0):
        assert remaining(1.0) == 1.0
        assert 1.9 < remaining(60.0) <= 2.0


def test_an_inner_deadline_never_gives_more_time() -> None:
    with deadline(1.0), deadline(60.0):
        assert remaining(60.0) <= 1.0


def test_nothing_left_is_an_error() -> None:
    with deadline(0.0), pytest.raises(DeadlineExceeded):
        remaining(1.0)
    assert remaining(1.0) == 1.0
