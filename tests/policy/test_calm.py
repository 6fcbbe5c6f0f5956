"""Budgets against abuse: what fits, what overflows, what leaks."""

import pytest

from sidecar.policy.calm import BUDGETS, REASONS, Calm


@pytest.mark.parametrize("reason", BUDGETS)
def test_a_burst_fits_and_one_more_does_not(reason: str) -> None:
    burst, _ = BUDGETS[reason]
    calm = Calm()
    assert all(calm.spend(reason, 5.0) <= 1 for _ in range(burst))
    assert calm.spend(reason, 5.0) > 1


@pytest.mark.parametrize("reason", BUDGETS)
def test_the_rate_is_allowed_for_ever(reason: str) -> None:
    _, rate = BUDGETS[reason]
    calm = Calm()
    assert all(calm.spend(reason, float(second), rate) <= 1 for second in range(1000))


@pytest.mark.parametrize("reason", BUDGETS)
def test_twice_the_rate_is_not(reason: str) -> None:
    burst, rate = BUDGETS[reason]
    calm = Calm()
    held = [calm.spend(reason, float(second), 2 * rate) <= 1 for second in range(2 * burst // rate + 2)]
    assert held[0]
    assert not held[-1]


def test_a_long_silence_empties_a_bucket_and_no_more() -> None:
    burst, _ = BUDGETS["ping"]
    calm = Calm()
    assert calm.spend("ping", 0.0, burst) <= 1
    assert calm.spend("ping", 1e6, burst) <= 1
    assert calm.spend("ping", 1e6) > 1


def test_kinds_have_buckets_of_their_own() -> None:
    calm = Calm()
    assert calm.spend("settings", 0.0, BUDGETS["settings"][0] + 1) > 1
    assert calm.spend("ping", 0.0) <= 1
    assert set(BUDGETS) < set(REASONS)
