"""After how long a second try is due, and how often one may be made."""

from random import Random

import pytest

from sidecar.policy.budget import Budget
from sidecar.policy.hedge import HedgePolicy, Hedging, Latencies
from tests.support.clock import FakeClock


def answers(latencies: Latencies, clock: FakeClock, *seconds: float, each: int = 1) -> None:
    for value in seconds:
        for _ in range(each):
            latencies.add(value, clock.now)


def asked(budget: Budget, clock: FakeClock, count: int) -> None:
    for _ in range(count):
        budget.deposit(clock.now)


def made(hedging: Hedging, budget: Budget, clock: FakeClock) -> int:
    count = 0
    while hedging.try_withdraw(budget, clock.now):
        count += 1
    return count


class TestLatencies:
    def test_nothing_is_said_of_too_few(self, clock: FakeClock) -> None:
        latencies = Latencies(clock.now)
        answers(latencies, clock, 0.01, each=99)
        assert latencies.quantile(0.95, clock.now) is None
        assert latencies.quantile(0.5, clock.now) is not None, "half of them are slower than the median"

        answers(latencies, clock, 0.01)
        assert latencies.quantile(0.95, clock.now) == pytest.approx(0.01, rel=0.125)
        assert latencies.quantile(0.99, clock.now) is None

    @pytest.mark.parametrize("q", [0.5, 0.75, 0.9, 0.95, 0.99])
    def test_it_is_an_upper_bound_and_a_close_one(self, clock: FakeClock, q: float) -> None:
        rng = Random(1)
        seen = [rng.lognormvariate(-4, 1) for _ in range(2000)]
        latencies = Latencies(clock.now)
        answers(latencies, clock, *seen)

        exact = sorted(seen)[int(q * len(seen)) - 1]
        found = latencies.quantile(q, clock.now)
        assert found is not None
        assert exact <= found <= exact * 1.125

    @pytest.mark.parametrize("seconds", [0.0, 1e-9, 2.0**-14, 1.0, 127.9, 1e6])
    def test_no_latency_is_beyond_it(self, clock: FakeClock, seconds: float) -> None:
        latencies = Latencies(clock.now)
        answers(latencies, clock, seconds, each=50)
        found = latencies.quantile(0.5, clock.now)
        assert found is not None
        assert 2.0**-14 < found <= 128.0
        assert found >= min(seconds, 128.0)

    def test_it_follows_within_two_generations(self, clock: FakeClock) -> None:
        latencies = Latencies(clock.now)
        for _ in range(200):
            clock.advance(0.1)
            answers(latencies, clock, 0.01, each=5)
        for _ in range(201):
            clock.advance(0.1)
            answers(latencies, clock, 0.08, each=5)
        assert latencies.quantile(0.5, clock.now) == pytest.approx(0.08, rel=0.125)
        assert latencies.quantile(0.99, clock.now) == pytest.approx(0.08, rel=0.125)

    def test_where_answers_are_few_it_remembers_for_longer(self, clock: FakeClock) -> None:
        # Given an answer in ten seconds: a hundred are needed
        latencies = Latencies(clock.now)
        for _ in range(300):
            clock.advance(10.0)
            answers(latencies, clock, 0.01)
            latencies.quantile(0.95, clock.now)
        assert latencies.quantile(0.95, clock.now) == pytest.approx(0.01, rel=0.125)

    def test_a_quantile_stands_for_a_tenth_of_a_second(self, clock: FakeClock) -> None:
        latencies = Latencies(clock.now)
        answers(latencies, clock, 0.01, each=50)
        before = latencies.quantile(0.5, clock.now)
        answers(latencies, clock, 1.0, each=500)
        assert latencies.quantile(0.5, clock.now) == before
        clock.advance(0.1)
        assert latencies.quantile(0.5, clock.now) == pytest.approx(1.0, rel=0.125)


class TestHedging:
    def test_a_fixed_time_needs_no_answers(self, clock: FakeClock) -> None:
        hedging = Hedging(0.05, clock.now)
        assert hedging.delay(HedgePolicy(seconds=0.05), clock.now) == 0.05
        assert hedging.delay(HedgePolicy(quantile=0.95), clock.now) is None

    def test_hedges_are_a_share_of_the_requests(self, clock: FakeClock) -> None:
        hedging, budget = Hedging(0.05, clock.now), Budget(0.2, 10.0)
        asked(budget, clock, 400)
        assert made(hedging, budget, clock) == 20
        asked(budget, clock, 19)
        assert made(hedging, budget, clock) == 0
        asked(budget, clock, 1)
        assert made(hedging, budget, clock) == 1

    def test_without_requests_there_are_none(self, clock: FakeClock) -> None:
        assert made(Hedging(0.05, clock.now), Budget(0.2, 10.0), clock) == 0

    def test_where_requests_are_few_each_twentieth_may_be_hedged(self, clock: FakeClock) -> None:
        hedging, budget = Hedging(0.05, clock.now), Budget(0.2, 10.0)
        total = 0
        for _ in range(400):
            clock.advance(5.0)
            asked(budget, clock, 1)
            total += made(hedging, budget, clock)
        assert total == 20

    def test_what_was_not_used_is_not_saved_up(self, clock: FakeClock) -> None:
        hedging, budget = Hedging(0.05, clock.now), Budget(0.2, 10.0)
        asked(budget, clock, 10_000)
        clock.advance(20.0)
        assert made(hedging, budget, clock) == 1

    def test_retries_pay_for_themselves(self, clock: FakeClock) -> None:
        hedging, budget = Hedging(0.05, clock.now), Budget(0.2, 0.0)
        asked(budget, clock, 100)
        assert made(hedging, budget, clock) == 5
        assert budget.remaining(clock.now) == 20.0

    def test_another_share_counts_at_once(self, clock: FakeClock) -> None:
        hedging, budget = Hedging(0.05, clock.now), Budget(0.2, 10.0)
        asked(budget, clock, 100)
        assert made(hedging, budget, clock) == 5
        hedging.configure(0.1)
        assert made(hedging, budget, clock) == 5
