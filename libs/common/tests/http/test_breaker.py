from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fleet_common.clock import ManualClock
from fleet_common.http.breaker import Breaker, BreakerOpen, Permit
from fleet_common.metrics import Metrics


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


@pytest.fixture
def breaker(clock: ManualClock) -> Breaker:
    return Breaker(minimum_calls=4, window_s=10, open_s=5, trials=2, clock=clock)


def state(breaker: Breaker) -> str:
    """Return the state, which a type checker would take for the one seen last."""
    return breaker.state


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.permit().failed()


def test_it_opens_when_half_of_enough_calls_fail(breaker: Breaker) -> None:
    breaker.permit().succeeded()
    breaker.permit().succeeded()
    fail(breaker)
    assert state(breaker) == "closed"
    fail(breaker)
    assert state(breaker) == "open"
    with pytest.raises(BreakerOpen) as caught:
        breaker.permit()
    assert caught.value.retry_after_s == 5


def test_a_few_failures_alone_do_not_open_it(breaker: Breaker) -> None:
    fail(breaker, 3)
    assert state(breaker) == "closed"


def test_failures_among_many_successes_do_not_open_it(breaker: Breaker) -> None:
    for _ in range(50):
        breaker.permit().succeeded()
    fail(breaker, 20)
    assert state(breaker) == "closed"


def test_old_results_leave_the_window(breaker: Breaker, clock: ManualClock) -> None:
    fail(breaker, 3)
    clock.advance(11)
    fail(breaker)
    assert state(breaker) == "closed"


def test_ignored_results_count_nowhere(breaker: Breaker) -> None:
    for _ in range(20):
        breaker.permit().ignored()
    fail(breaker, 3)
    assert state(breaker) == "closed"


def test_one_trial_at_a_time_is_let_through_when_it_has_been_open_long_enough(
    breaker: Breaker, clock: ManualClock
) -> None:
    fail(breaker, 4)
    clock.advance(5)
    assert state(breaker) == "half_open"
    trial = breaker.permit()
    with pytest.raises(BreakerOpen):
        breaker.permit()
    trial.ignored()
    breaker.permit().succeeded()
    assert state(breaker) == "half_open"
    breaker.permit().succeeded()
    assert state(breaker) == "closed"


def test_a_failed_trial_opens_it_for_the_whole_time_again(
    breaker: Breaker, clock: ManualClock
) -> None:
    fail(breaker, 4)
    clock.advance(6)
    fail(breaker)
    clock.advance(4.9)
    assert state(breaker) == "open"
    clock.advance(0.2)
    assert state(breaker) == "half_open"


def test_a_call_from_before_says_nothing_about_now(breaker: Breaker, clock: ManualClock) -> None:
    slow = breaker.permit()
    fail(breaker, 4)
    clock.advance(5)
    trial = breaker.permit()
    slow.failed()
    assert state(breaker) == "half_open"
    trial.succeeded()


def test_it_is_exported_while_it_is_open(breaker: Breaker, clock: ManualClock) -> None:
    metrics, line = Metrics("devops"), 'mcp_breaker_open{dep="github",service="devops"}'
    breaker.export(metrics, "github")
    assert f"{line} 0.0" in metrics.render()[0].decode()
    fail(breaker, 4)
    assert f"{line} 1.0" in metrics.render()[0].decode()
    clock.advance(5)
    assert f"{line} 0.0" in metrics.render()[0].decode()


def test_an_outcome_is_reported_once(breaker: Breaker) -> None:
    permit = breaker.permit()
    for _ in range(10):
        permit.failed()
    assert state(breaker) == "closed"


class BreakerMachine(RuleBasedStateMachine):
    """Compares the breaker with a model that keeps every result with its time."""

    MINIMUM, WINDOW_S, OPEN_S, TRIALS, SLICE_S = 3, 10.0, 4.0, 2, 1.0

    @initialize()
    def start(self) -> None:
        self.clock = ManualClock()
        self.breaker = Breaker(
            minimum_calls=self.MINIMUM,
            window_s=self.WINDOW_S,
            open_s=self.OPEN_S,
            trials=self.TRIALS,
            clock=self.clock,
        )
        self.results: list[tuple[float, bool]] = []
        self.permits: list[tuple[int, Permit]] = []
        self.era = 0
        self.state = "closed"
        self.opened_at = 0.0
        self.trial_is_out = False
        self.good_trials = 0

    @rule(eighths=st.integers(1, 48))
    def advance(self, eighths: int) -> None:
        # Eighths are exact in binary, so the model and the breaker agree on every boundary.
        self.clock.advance(eighths / 8)

    @rule()
    def ask(self) -> None:
        if self.state == "open" and self.clock() >= self.opened_at + self.OPEN_S:
            self._enter("half_open")
        allowed = self.state == "closed" or (self.state == "half_open" and not self.trial_is_out)
        if allowed:
            self.permits.append((self.era, self.breaker.permit()))
            self.trial_is_out = self.state == "half_open"
        else:
            with pytest.raises(BreakerOpen) as caught:
                self.breaker.permit()
            assert 0 < caught.value.retry_after_s <= self.OPEN_S

    @precondition(lambda self: self.permits)
    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "ignored"]))
    def report(self, data: st.DataObject, outcome: str) -> None:
        era, permit = self.permits.pop(data.draw(st.integers(0, len(self.permits) - 1)))
        getattr(permit, outcome)()
        if era == self.era:
            self._model(outcome)

    def _model(self, outcome: str) -> None:
        if self.state == "half_open":
            self.trial_is_out = False
            self.good_trials += outcome == "succeeded"
            if outcome == "failed":
                self._enter("open")
            elif self.good_trials == self.TRIALS:
                self._enter("closed")
        elif outcome != "ignored":
            self.results.append((self.clock(), outcome == "failed"))
            oldest = self.clock() // self.SLICE_S - 9
            recent = [failed for at, failed in self.results if at // self.SLICE_S >= oldest]
            is_failing = len(recent) >= self.MINIMUM and sum(recent) * 2 >= len(recent)
            if outcome == "failed" and is_failing:
                self._enter("open")

    def _enter(self, state: str) -> None:
        self.era += 1
        self.state = state
        self.opened_at = self.clock()
        self.results.clear()
        self.trial_is_out = False
        self.good_trials = 0

    @invariant()
    def it_is_in_the_state_of_the_model(self) -> None:
        expected = self.state
        if expected == "open" and self.clock() >= self.opened_at + self.OPEN_S:
            expected = "half_open"
        assert self.breaker.state == expected


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
