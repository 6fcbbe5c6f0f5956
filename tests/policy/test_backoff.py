"""Full jitter: uniform between nothing and a growing bound."""

from random import Random

import pytest

from sidecar.policy.backoff import backoff
from tests.policy.breakers import FixedRandom


@pytest.mark.parametrize(
    ("attempt", "bound"), [(1, 0.025), (2, 0.05), (3, 0.1), (4, 0.2), (5, 0.25), (6, 0.25), (100_000, 0.25)]
)
def test_the_bound_doubles_up_to_the_maximum(attempt: int, bound: float) -> None:
    assert backoff(attempt, 0.025, 0.25, FixedRandom(1.0)) == pytest.approx(bound)


def test_the_whole_range_is_used() -> None:
    rng = Random(7)

    drawn = sorted(backoff(3, 0.025, 0.25, rng) for _ in range(1000))

    assert drawn[0] < 0.005
    assert drawn[-1] > 0.095
    assert drawn[500] == pytest.approx(0.05, abs=0.01)


def test_a_base_beyond_the_maximum_is_bounded() -> None:
    assert backoff(1, 5.0, 1.0, FixedRandom(1.0)) == 1.0


def test_no_base_is_no_wait() -> None:
    assert backoff(3, 0.0, 1.0, FixedRandom(1.0)) == 0.0


def test_before_any_try_it_is_the_first_bound() -> None:
    assert backoff(0, 0.025, 0.25, FixedRandom(1.0)) == 0.025
