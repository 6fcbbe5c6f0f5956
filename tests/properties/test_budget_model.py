"""Any traffic: retries are never more than what requests and the floor pay for."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.policy.budget import SECONDS, Budget
from tests.support.clock import FakeClock

# Seconds to wait, requests, then retries that are wanted.
traffic = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.9, 1.0, 3.3, 9.9, 30.0]), st.integers(0, 30), st.integers(0, 60)),
    max_size=40,
)
ratios = st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(steps=traffic, ratio=ratios, floor=st.integers(0, 3))
def test_no_ten_seconds_hold_more_than_they_pay_for(
    steps: list[tuple[float, int, int]], ratio: float, floor: int
) -> None:
    clock, budget = FakeClock(), Budget(ratio, floor)
    requests: list[float] = []
    retries: list[float] = []

    for wait, wanted_requests, wanted_retries in steps:
        clock.advance(wait)
        for _ in range(wanted_requests):
            budget.deposit(clock())
            requests.append(clock())
        retries += [clock() for _ in range(wanted_retries) if budget.try_withdraw(clock())]
        # What is surely in the window is nine tenths, what may be in it is all of it.
        sure = sum(at > clock() - 0.9 * SECONDS for at in retries)
        paid = ratio * sum(at > clock() - SECONDS for at in requests) + floor * SECONDS
        assert sure <= paid + 1e-6
        assert budget.remaining(clock()) >= 0.0


@settings(max_examples=200, deadline=None, derandomize=True)
@given(steps=traffic, ratio=ratios)
def test_without_a_floor_every_retry_was_paid_for_once(steps: list[tuple[float, int, int]], ratio: float) -> None:
    """A retry stays counted at least as long as the request that paid for it."""
    clock, budget = FakeClock(), Budget(ratio, 0.0)
    requests = retries = 0

    for wait, wanted_requests, wanted_retries in steps:
        clock.advance(wait)
        for _ in range(wanted_requests):
            budget.deposit(clock())
        requests += wanted_requests
        retries += sum(budget.try_withdraw(clock()) for _ in range(wanted_retries))
        assert retries <= ratio * requests + 1e-6


@settings(max_examples=100, deadline=None, derandomize=True)
@given(steps=traffic, ratio=ratios, floor=st.integers(0, 3))
def test_says_yes_whenever_there_is_one_left(steps: list[tuple[float, int, int]], ratio: float, floor: int) -> None:
    clock, budget = FakeClock(), Budget(ratio, floor)

    for wait, wanted_requests, wanted_retries in steps:
        clock.advance(wait)
        for _ in range(wanted_requests):
            budget.deposit(clock())
        for _ in range(wanted_retries):
            left = budget.remaining(clock())
            assert budget.try_withdraw(clock()) == (left >= 1.0)
