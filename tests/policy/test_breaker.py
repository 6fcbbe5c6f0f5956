"""The breaker's rules, one test each."""

import gc
import subprocess
import sys
from random import Random

import pytest

from sidecar.model.outcome import Verdict
from sidecar.policy.breaker import CLOSED, HALF_OPEN, OPEN, REFUSED, Breaker
from tests.policy.breakers import POLICY, FixedRandom, attempts, make_breaker, trip
from tests.support.clock import FakeClock

SUCCESS, FAILURE, IGNORED, SOFT = Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED, Verdict.SOFT_FAILURE


class TestClosed:
    def test_admits_and_counts(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)

        attempts(breaker, clock, SUCCESS, FAILURE, SUCCESS, IGNORED, SOFT)

        assert breaker.state == CLOSED
        assert breaker.counts(clock()) == (4, 2)

    def test_opens_after_consecutive_failures(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, consecutive=3, min_requests=100)

        attempts(breaker, clock, FAILURE, FAILURE)
        assert breaker.state == CLOSED
        attempts(breaker, clock, FAILURE)

        assert breaker.state == OPEN
        assert breaker.admit(clock()) == REFUSED

    def test_a_success_ends_the_run(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, consecutive=3, min_requests=100)

        attempts(breaker, clock, FAILURE, FAILURE, SUCCESS, FAILURE, FAILURE)

        assert breaker.state == CLOSED

    @pytest.mark.parametrize("between", [SOFT, IGNORED])
    def test_others_neither_extend_nor_end_the_run(self, clock: FakeClock, between: Verdict) -> None:
        breaker = make_breaker(clock, consecutive=3, min_requests=100)

        attempts(breaker, clock, FAILURE, between, FAILURE, between)
        assert breaker.state == CLOSED
        attempts(breaker, clock, FAILURE)

        assert breaker.state == OPEN

    def test_soft_failures_never_make_a_run(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, consecutive=3, min_requests=100)

        attempts(breaker, clock, *[SOFT] * 50)

        assert breaker.state == CLOSED

    def test_consecutive_zero_is_never(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, consecutive=0, min_requests=100)

        attempts(breaker, clock, *[FAILURE] * 50)

        assert breaker.state == CLOSED

    @pytest.mark.parametrize("failure", [FAILURE, SOFT])
    def test_opens_at_the_ratio_once_there_are_enough(self, clock: FakeClock, failure: Verdict) -> None:
        breaker = make_breaker(clock, consecutive=0, min_requests=10, failure_ratio=0.5)

        attempts(breaker, clock, *[failure, SUCCESS] * 4, failure)
        assert breaker.state == CLOSED, "five of nine: more than half, but too few"
        attempts(breaker, clock, failure)

        assert breaker.state == OPEN

    def test_stays_closed_below_the_ratio(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, consecutive=0, failure_ratio=0.5)

        attempts(breaker, clock, *[SUCCESS, SUCCESS, FAILURE] * 30)

        assert breaker.state == CLOSED

    def test_the_minimum_counts_in_the_window_only(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, consecutive=0, min_requests=10, window=10.0)
        attempts(breaker, clock, *[SUCCESS] * 100)

        clock.advance(10.0)
        attempts(breaker, clock, *[FAILURE] * 9)
        assert breaker.state == CLOSED
        attempts(breaker, clock, FAILURE)

        assert breaker.state == OPEN

    def test_old_failures_leave_the_window(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, consecutive=0, min_requests=10, window=10.0)

        for _ in range(20):
            attempts(breaker, clock, *[FAILURE] * 4)
            clock.advance(5.0)

        assert breaker.state == CLOSED

    def test_ignored_attempts_are_no_requests(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, consecutive=0, min_requests=10)

        attempts(breaker, clock, *[IGNORED] * 100, *[FAILURE] * 9)

        assert breaker.state == CLOSED


class TestOpen:
    def test_doubles_while_probes_fail_up_to_the_maximum(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, open_base=1.0, open_max=5.0)
        trip(breaker, clock)

        times = []
        for _ in range(5):
            times.append(breaker.open_until - clock())
            clock.now = breaker.open_until
            breaker.probe()
            attempts(breaker, clock, FAILURE)

        assert times == pytest.approx([1.0, 2.0, 4.0, 5.0, 5.0])

    def test_an_open_time_can_be_cut_short_but_not_below_the_first(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, open_base=4.0)
        assert not breaker.hurry(3.0, clock()), "it is closed"
        trip(breaker, clock)
        assert not breaker.hurry(3.0, clock()), "the first time is the policy's"
        breaker.probe()
        attempts(breaker, clock, FAILURE)
        assert breaker.open_until - clock() == pytest.approx(8.0)

        assert breaker.hurry(3.0, clock())

        assert breaker.open_until - clock() == pytest.approx(4.0)
        assert not breaker.hurry(3.0, clock()), "once is enough"

    def test_closing_resets_the_doubling(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(breaker, clock)
        breaker.probe()
        attempts(breaker, clock, FAILURE)
        breaker.probe()
        attempts(breaker, clock, SUCCESS)

        trip(breaker, clock)

        assert breaker.open_until - clock() == pytest.approx(1.0)

    def test_thousands_of_failed_probes_do_not_overflow(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(breaker, clock)

        for _ in range(2000):
            breaker.probe()
            attempts(breaker, clock, FAILURE)

        assert breaker.open_until - clock() == pytest.approx(60.0)

    @pytest.mark.parametrize(("drawn", "seconds"), [(0.0, 2.0), (0.5, 1.8), (1.0, 1.6)])
    def test_jitter_takes_up_to_a_fifth(self, clock: FakeClock, drawn: float, seconds: float) -> None:
        breaker = make_breaker(clock, FixedRandom(drawn), open_base=2.0)

        trip(breaker, clock)

        assert breaker.open_until - clock() == pytest.approx(seconds)

    def test_late_results_are_dropped(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        late = breaker.admit(clock())
        trip(breaker, clock)
        before = breaker.open_until

        breaker.record(late, FAILURE, clock())
        breaker.probe()
        breaker.record(late, SUCCESS, clock())

        assert breaker.state == HALF_OPEN
        assert breaker.open_until == before


class TestHalfOpen:
    def test_lets_exactly_the_probes_through(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(breaker, clock)
        breaker.probe()

        permits = [breaker.admit(clock()) for _ in range(50)]

        assert len([permit for permit in permits if permit != REFUSED]) == 1
        assert permits[0] != REFUSED

    def test_a_success_closes_with_a_clean_window(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(breaker, clock)
        breaker.probe()

        attempts(breaker, clock, SUCCESS)

        assert breaker.state == CLOSED
        assert breaker.counts(clock()) == (0, 0)
        attempts(breaker, clock, *[FAILURE] * 4)
        assert breaker.state == CLOSED, "the run began anew as well"

    @pytest.mark.parametrize("failure", [FAILURE, SOFT])
    def test_a_failure_opens(self, clock: FakeClock, failure: Verdict) -> None:
        breaker = make_breaker(clock)
        trip(breaker, clock)
        breaker.probe()

        attempts(breaker, clock, failure)

        assert breaker.state == OPEN

    def test_an_ignored_probe_hands_its_permit_back(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(breaker, clock)
        breaker.probe()
        permit = breaker.admit(clock())
        assert breaker.admit(clock()) == REFUSED

        breaker.record(permit, IGNORED, clock())

        assert breaker.state == HALF_OPEN
        assert breaker.admit(clock()) != REFUSED
        assert breaker.admit(clock()) == REFUSED

    def test_several_probes_must_all_succeed(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, probes=3)
        trip(breaker, clock)
        breaker.probe()

        attempts(breaker, clock, SUCCESS, SUCCESS)
        assert breaker.state == HALF_OPEN
        attempts(breaker, clock, SUCCESS)

        assert breaker.state == CLOSED

    def test_the_first_of_several_to_fail_opens_and_the_rest_is_late(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, probes=3)
        trip(breaker, clock)
        breaker.probe()
        first, second, third = (breaker.admit(clock()) for _ in range(3))
        breaker.record(first, SUCCESS, clock())

        breaker.record(second, FAILURE, clock())
        breaker.probe()
        breaker.record(third, FAILURE, clock())

        assert breaker.state == HALF_OPEN, "the third belongs to the round before"

    def test_a_late_timer_does_nothing(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        breaker.probe()
        assert breaker.state == CLOSED
        trip(breaker, clock)
        breaker.probe()
        permit = breaker.admit(clock())

        breaker.probe()

        assert breaker.generation == permit
        assert breaker.admit(clock()) == REFUSED


class TestTransitions:
    def test_all_legal_pairs_are_there_from_the_start(self, clock: FakeClock) -> None:
        assert make_breaker(clock).transitions == {
            (CLOSED, OPEN): 0,
            (OPEN, HALF_OPEN): 0,
            (HALF_OPEN, OPEN): 0,
            (HALF_OPEN, CLOSED): 0,
        }

    def test_are_counted_and_told(self, clock: FakeClock) -> None:
        seen: list[tuple[int, int]] = []
        breaker = make_breaker(clock)
        breaker.on_change = lambda _, old, new: seen.append((old, new))

        trip(breaker, clock)
        breaker.probe()
        attempts(breaker, clock, FAILURE)
        breaker.probe()
        clock.advance(3.0)
        attempts(breaker, clock, SUCCESS)

        assert seen == [(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED)]
        assert breaker.transitions == {pair: seen.count(pair) for pair in breaker.transitions}
        assert breaker.generation == len(seen)
        assert breaker.changed_at == clock()

    def test_the_owner_may_probe_from_within(self, clock: FakeClock) -> None:
        def probe_at_once(breaker: Breaker, old: int, new: int) -> None:
            if new == OPEN:
                breaker.probe()

        breaker = make_breaker(clock)
        breaker.on_change = probe_at_once

        attempts(breaker, clock, *[FAILURE] * 5)

        assert breaker.state == HALF_OPEN
        attempts(breaker, clock, SUCCESS)
        assert breaker.state == CLOSED


class TestConfigure:
    def test_keeps_state_and_open_time(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(breaker, clock)
        until = breaker.open_until

        breaker.configure(**{**POLICY, "open_base": 30.0})

        assert breaker.state == OPEN
        assert breaker.open_until == until
        breaker.probe()
        attempts(breaker, clock, FAILURE)
        assert breaker.open_until - clock() == pytest.approx(60.0)

    def test_keeps_what_was_counted(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, consecutive=0)
        attempts(breaker, clock, *[FAILURE] * 7)

        breaker.configure(**{**POLICY, "window": 60.0, "min_requests": 8})

        assert breaker.counts(clock()) == (7, 7)
        attempts(breaker, clock, FAILURE)
        assert breaker.state == OPEN

    def test_more_probes_while_half_open(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock)
        trip(breaker, clock)
        breaker.probe()
        first = breaker.admit(clock())

        breaker.configure(**{**POLICY, "probes": 2})

        second = breaker.admit(clock())
        assert second != REFUSED
        assert breaker.admit(clock()) == REFUSED
        breaker.record(first, SUCCESS, clock())
        breaker.record(second, SUCCESS, clock())
        assert breaker.state == CLOSED

    def test_fewer_probes_than_have_succeeded_close(self, clock: FakeClock) -> None:
        breaker = make_breaker(clock, probes=3)
        trip(breaker, clock)
        breaker.probe()
        attempts(breaker, clock, SUCCESS, SUCCESS)

        breaker.configure(**{**POLICY, "probes": 2})

        assert breaker.state == CLOSED

    @pytest.mark.parametrize("wrong", [{"probes": 0}, {"window": 0.0}])
    def test_refuses_what_can_never_work(self, clock: FakeClock, wrong: dict[str, float]) -> None:
        breaker = make_breaker(clock, probes=3)

        with pytest.raises(ValueError, match=r"probes|window"):
            breaker.configure(**{**POLICY, **wrong})

        trip(breaker, clock)
        breaker.probe()
        assert breaker.admit(clock()) != REFUSED


def test_a_breaker_that_nobody_holds_is_freed(clock: FakeClock) -> None:
    """It and pybreaker refer to each other: a removed endpoint must not leak them."""
    breaker = make_breaker(clock, Random(1))
    freed: list[bool] = []
    breaker.on_change = lambda *_: None

    class Witness:
        def __del__(self) -> None:
            freed.append(True)

    breaker.transitions[-1, -1] = Witness()  # type: ignore[assignment]
    del breaker
    gc.collect()

    assert freed == [True]


def test_redis_is_not_imported() -> None:
    code = "import sidecar.policy.breaker, sys; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
