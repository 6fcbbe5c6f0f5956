"""A balancer that avoids what was slow or failing must let the probe through all the same."""

from collections.abc import Callable
from random import Random

import pytest

from sidecar.policy.breaker import CLOSED, OPEN
from sidecar.upstream.balance.base import Balancer
from sidecar.upstream.balance.least_request import LeastRequest
from sidecar.upstream.balance.peak_ewma import PeakEwma
from tests.proxy.world import World


@pytest.mark.parametrize("balancer", [PeakEwma, LeastRequest])
def test_an_endpoint_that_failed_is_probed_soon_after_its_open_time(balancer: Callable[[Random], Balancer]) -> None:
    world = World(3, balancer=balancer)
    for endpoint in world.endpoints:
        # Two fast ones, and one that was known as slow when its breaker opened.
        world.cluster.balancer.observe(endpoint, 0.4 if endpoint is world.endpoints[0] else 0.001, world.clock.now)
    world.open_breaker(0)
    while world.endpoints[0].breaker.state == OPEN:
        world.after(0.1)
    for _ in range(20):
        world.request()
        world.last.answer()
    assert world.endpoints[0].breaker.state == CLOSED
    world.at_rest()
