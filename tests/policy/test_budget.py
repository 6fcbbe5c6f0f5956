"""Retries are paid for by requests."""

import pytest

from sidecar.policy.budget import Budget
from tests.support.clock import FakeClock


def withdraw_all(budget: Budget, now: float) -> int:
    taken = 0
    while budget.try_withdraw(now):
        taken += 1
    return taken


def test_without_requests_the_floor_is_allowed(clock: FakeClock) -> None:
    budget = Budget(ratio=0.2, floor=10.0)

    assert budget.remaining(clock()) == 100.0
    assert withdraw_all(budget, clock()) == 100


def test_requests_add_their_share(clock: FakeClock) -> None:
    budget = Budget(ratio=0.2, floor=0.0)
    for _ in range(100):
        budget.deposit(clock())

    assert withdraw_all(budget, clock()) == 20
    assert budget.remaining(clock()) == 0.0


def test_part_of_a_retry_is_none(clock: FakeClock) -> None:
    budget = Budget(ratio=0.2, floor=0.0)
    for _ in range(4):
        budget.deposit(clock())

    assert not budget.try_withdraw(clock())
    assert budget.remaining(clock()) == pytest.approx(0.8)
    budget.deposit(clock())
    assert budget.try_withdraw(clock())


def test_requests_are_worth_ten_seconds(clock: FakeClock) -> None:
    budget = Budget(ratio=1.0, floor=0.0)
    for _ in range(10):
        budget.deposit(clock())

    clock.advance(8.9)
    assert budget.remaining(clock()) == 10.0
    clock.advance(1.1)

    assert not budget.try_withdraw(clock())


def test_retries_are_counted_for_ten_seconds(clock: FakeClock) -> None:
    budget = Budget(ratio=0.0, floor=1.0)
    assert withdraw_all(budget, clock()) == 10

    clock.advance(8.9)
    assert withdraw_all(budget, clock()) == 0
    clock.advance(1.1)

    assert withdraw_all(budget, clock()) == 10


def test_configure_keeps_what_was_counted(clock: FakeClock) -> None:
    budget = Budget(ratio=0.5, floor=0.0)
    for _ in range(10):
        budget.deposit(clock())
    assert withdraw_all(budget, clock()) == 5

    budget.configure(ratio=0.8, floor=0.0)
    assert withdraw_all(budget, clock()) == 3
    budget.configure(ratio=0.1, floor=0.0)

    assert budget.remaining(clock()) == 0.0, "spent more than is allowed now: nothing, not less"


def test_nothing_allowed_is_nothing(clock: FakeClock) -> None:
    budget = Budget(ratio=0.0, floor=0.0)
    budget.deposit(clock())

    assert not budget.try_withdraw(clock())
