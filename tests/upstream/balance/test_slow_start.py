"""From a tenth of the weight to all of it."""

import pytest

from sidecar.upstream.balance.slow_start import effective_weight, ramp_end
from tests.upstream.balance.endpoints import make_endpoints


@pytest.mark.parametrize(
    ("age", "weight"), [(-1.0, 0.4), (0.0, 0.4), (0.5, 0.4), (1.0, 0.4), (5.0, 2.0), (9.0, 3.6), (10.0, 4.0), (99.0, 4)]
)
def test_the_ramp_is_linear_from_a_tenth_on(age: float, weight: float) -> None:
    (endpoint,) = make_endpoints(1, [4])
    endpoint.ready_since = 1000.0

    assert effective_weight(endpoint, 10.0, 1000.0 + age) == pytest.approx(weight)


def test_one_that_was_there_from_the_start_has_all_of_it() -> None:
    (endpoint,) = make_endpoints(1, [4])

    assert effective_weight(endpoint, 10.0, 0.5) == 4


def test_the_ramp_ends_when_the_last_one_does() -> None:
    first, second, never = make_endpoints(3)
    first.ready_since, second.ready_since = 1000.0, 1003.0

    assert ramp_end([first, second, never], 10.0) == 1013.0
    assert ramp_end([never], 10.0) == 0.0
    assert ramp_end([first, second], 0.0) == 0.0
    assert ramp_end([], 10.0) == 0.0
