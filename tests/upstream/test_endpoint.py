"""Endpoints: when one may be picked."""

from random import Random

import pytest

from sidecar.model.address import Address
from sidecar.policy.breaker import Breaker
from sidecar.upstream.endpoint import Endpoint
from tests.proxy.world import BREAKER, World
from tests.support.clock import FakeClock


@pytest.fixture
def endpoint(clock: FakeClock) -> Endpoint:
    breaker = Breaker(name="e", rng=Random(1), clock=clock, **BREAKER)
    return Endpoint(Address("e", 80), breaker, weight=3, zone="eu", priority=1)


def test_a_new_one_is_usable_and_has_done_nothing(endpoint: Endpoint, clock: FakeClock) -> None:
    assert endpoint.usable(clock.now)
    assert (endpoint.name, endpoint.weight, endpoint.zone, endpoint.priority) == ("e:80", 3, "eu", 1)
    assert (endpoint.in_flight, endpoint.verdicts, endpoint.durations.count) == (0, [0, 0, 0, 0], 0)


def test_an_unhealthy_one_is_not(endpoint: Endpoint, clock: FakeClock) -> None:
    endpoint.healthy = False
    assert not endpoint.usable(clock.now)


def test_a_drained_one_is_not_until_its_time_is_over(endpoint: Endpoint, clock: FakeClock) -> None:
    endpoint.drained_until = clock.now + 10
    assert not endpoint.usable(clock.now)
    assert endpoint.usable(clock.now + 10)


def test_an_open_breaker_makes_it_unusable_a_half_open_one_does_not(clock: FakeClock) -> None:
    world = World(1)
    endpoint = world.endpoints[0]
    world.open_breaker(0)
    assert not endpoint.usable(world.clock.now)
    endpoint.breaker.probe()
    assert endpoint.usable(world.clock.now)
