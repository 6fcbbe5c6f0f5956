"""Latency is believed at once when it rises, with time when it falls."""

from math import exp
from random import Random

import pytest

from sidecar.upstream.balance.peak_ewma import DECAY, PeakEwma
from sidecar.upstream.endpoint import Endpoint
from tests.support.clock import FakeClock
from tests.upstream.balance.endpoints import make_endpoints, tally


def over(endpoints: list[Endpoint]) -> PeakEwma:
    balancer = PeakEwma(Random(5))
    balancer.update(endpoints)
    return balancer


def test_the_first_latency_is_taken_as_it_is(clock: FakeClock) -> None:
    (endpoint,) = make_endpoints(1)
    balancer = over([endpoint])

    balancer.observe(endpoint, 0.0003, clock())

    assert endpoint.cost == pytest.approx(0.0003)


def test_a_peak_is_believed_at_once(clock: FakeClock) -> None:
    (endpoint,) = make_endpoints(1)
    balancer = over([endpoint])
    balancer.observe(endpoint, 0.010, clock())

    balancer.observe(endpoint, 2.0, clock.advance(0.001))

    assert endpoint.cost == 2.0


def test_a_lower_latency_is_believed_with_time(clock: FakeClock) -> None:
    (endpoint,) = make_endpoints(1)
    balancer = over([endpoint])
    balancer.observe(endpoint, 1.0, clock())

    balancer.observe(endpoint, 0.0, clock.advance(DECAY))
    assert endpoint.cost == pytest.approx(exp(-1))
    balancer.observe(endpoint, 0.0, clock.advance(2 * DECAY))

    assert endpoint.cost == pytest.approx(exp(-3))


def test_the_faster_one_is_picked_until_it_is_busier(clock: FakeClock) -> None:
    fast, slow = make_endpoints(2)
    balancer = over([fast, slow])
    balancer.observe(fast, 0.010, clock())
    balancer.observe(slow, 0.050, clock())

    placed = []
    for _ in range(12):
        endpoint = balancer.pick((), 0, clock())
        assert endpoint is not None
        endpoint.in_flight += 1
        placed.append(endpoint)

    assert placed[:4] == [fast] * 4, "10, 20, 30, 40 ms against 50"
    assert placed.count(fast) == 10
    assert placed.count(slow) == 2


def test_weight_counts_in_the_load(clock: FakeClock) -> None:
    light, heavy = make_endpoints(2, [1, 3])
    balancer = over([light, heavy])
    balancer.observe(light, 0.010, clock())
    balancer.observe(heavy, 0.010, clock())
    light.in_flight, heavy.in_flight = 3, 3

    assert set(tally(balancer, range(200), clock())) == {heavy}


def test_unequal_weights_are_not_overruled_by_small_differences(clock: FakeClock) -> None:
    light, heavy = make_endpoints(2, [1, 2])
    balancer = over([light, heavy])
    balancer.observe(light, 0.010, clock())
    balancer.observe(heavy, 0.015, clock())
    assert tally(balancer, range(3000), clock())[heavy] == pytest.approx(2000, rel=0.1)

    balancer.observe(heavy, 0.021, clock())

    assert set(tally(balancer, range(3000), clock())) == {light}


def test_a_slow_one_is_tried_again_as_its_cost_fades(clock: FakeClock) -> None:
    fast, slow = make_endpoints(2)
    balancer = over([fast, slow])
    balancer.observe(slow, 0.100, clock())
    balancer.observe(fast, 0.020, clock())
    assert set(tally(balancer, range(100), clock())) == {fast}

    balancer.observe(fast, 0.020, clock.advance(DECAY))
    assert set(tally(balancer, range(100), clock())) == {fast}, "37 ms against 20"
    balancer.observe(fast, 0.020, clock.advance(DECAY))

    assert set(tally(balancer, range(100), clock())) == {slow}, "13.5 ms against 20"


def test_all_fade_alike_while_nothing_is_asked(clock: FakeClock) -> None:
    fast, slow = make_endpoints(2)
    balancer = over([fast, slow])
    balancer.observe(slow, 0.100, clock())
    balancer.observe(fast, 0.020, clock())

    clock.advance(1e6)

    assert set(tally(balancer, range(100), clock())) == {fast}


def test_a_new_one_is_taken_for_an_average_one(clock: FakeClock) -> None:
    endpoints = make_endpoints(4)
    balancer = over(endpoints)
    for endpoint, seconds in zip(endpoints, (0.010, 0.020, 9.0), strict=False):
        balancer.observe(endpoint, seconds, clock())

    tally(balancer, range(50), clock())

    new = endpoints[3]
    assert new.cost_at == clock(), "from here on it fades like the others"
    assert new.cost == 0.020, "the median: one endpoint in trouble says nothing of a new one"
    balancer.observe(new, 0.005, clock.advance(0.005))
    assert new.cost < 0.020


def test_no_burst_at_one_that_was_long_unheard(clock: FakeClock) -> None:
    """Its cost would have faded to nothing: all would go there before its first answer."""
    known, unheard = make_endpoints(2)
    balancer = over([known, unheard])
    balancer.observe(unheard, 0.010, clock())
    balancer.observe(known, 0.010, clock.advance(10_000.0))

    for _ in range(100):
        endpoint = balancer.pick((), 0, clock())
        assert endpoint is not None
        endpoint.in_flight += 1

    assert unheard.in_flight == known.in_flight == 50


def test_while_nothing_is_known_the_least_busy_is_picked(clock: FakeClock) -> None:
    busy, idle = make_endpoints(2)
    busy.in_flight = 1

    assert set(tally(over([busy, idle]), range(100), clock())) == {idle}


def test_what_is_known_survives_an_update(clock: FakeClock) -> None:
    endpoints = make_endpoints(2)
    balancer = over(endpoints)
    balancer.observe(endpoints[0], 0.5, clock())

    over(endpoints)

    assert endpoints[0].cost == 0.5
    assert endpoints[0].cost_at == clock()
