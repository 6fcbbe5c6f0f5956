"""What is drawn, apart from how it is compared."""

from random import Random

import pytest

from sidecar.upstream.balance.least_request import LeastRequest
from sidecar.upstream.balance.peak_ewma import PeakEwma
from sidecar.upstream.balance.two_choices import TwoChoices
from tests.upstream.balance.endpoints import make_endpoints, spread_keys, tally

NOW = 1000.0


@pytest.mark.parametrize("count", [2, 16, 17, 30])
def test_idle_equal_endpoints_share_evenly(count: int) -> None:
    """A tie must not always go to the same one: sequential requests are all ties."""
    endpoints = make_endpoints(count)
    balancer = LeastRequest(Random(5))
    balancer.update(endpoints)

    picked = tally(balancer, range(count * 500), NOW)

    assert all(picked[endpoint] == pytest.approx(500, rel=0.2) for endpoint in endpoints)


@pytest.mark.parametrize("kind", [LeastRequest, PeakEwma])
def test_idle_endpoints_share_by_weight(kind: type[TwoChoices]) -> None:
    endpoints = make_endpoints(3, [4, 2, 1])
    balancer = kind(Random(5))
    balancer.update(endpoints)

    picked = tally(balancer, range(7000), NOW)

    assert [picked[endpoint] / 1000 for endpoint in endpoints] == pytest.approx([4, 2, 1], rel=0.1)


@pytest.mark.parametrize("kind", [LeastRequest, PeakEwma])
@pytest.mark.parametrize("weights", [[1] * 20, [1, 2] * 10], ids=["even", "weighted"])
def test_the_worst_of_all_is_never_the_better_of_two(kind: type[TwoChoices], weights: list[int]) -> None:
    """The two are distinct: an endpoint is never its own rival."""
    endpoints = make_endpoints(20, weights)
    endpoints[7].in_flight = 100
    balancer = kind(Random(5))
    balancer.update(endpoints)

    assert endpoints[7] not in tally(balancer, range(4000), NOW)


@pytest.mark.parametrize("kind", [LeastRequest, PeakEwma])
def test_a_returned_endpoint_ramps_up(kind: type[TwoChoices]) -> None:
    endpoints = make_endpoints(3)
    endpoints[0].ready_since = NOW
    balancer = kind(Random(5), slow_start=10.0)
    balancer.update(endpoints)

    shares = [tally(balancer, range(4000), NOW + age)[endpoints[0]] / 4000 for age in (0.0, 5.0, 10.0)]

    assert shares == pytest.approx([0.1 / 2.1, 0.5 / 2.5, 1 / 3], rel=0.15)


def test_a_retry_compares_two_of_what_is_left() -> None:
    endpoints = make_endpoints(4)
    endpoints[1].in_flight = 9
    balancer = LeastRequest(Random(5))
    balancer.update(endpoints)

    picked = {balancer.pick([endpoints[0]], key, NOW) for key in spread_keys(200)}

    assert picked == {endpoints[2], endpoints[3]}
