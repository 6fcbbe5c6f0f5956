"""Fewest in flight for the weight."""

from random import Random

from sidecar.upstream.balance.least_request import LeastRequest
from tests.upstream.balance.endpoints import make_endpoints, tally

NOW = 1000.0


def test_the_one_with_fewer_in_flight() -> None:
    endpoints = make_endpoints(2)
    endpoints[0].in_flight = 3
    endpoints[1].in_flight = 2
    balancer = LeastRequest(Random(1))
    balancer.update(endpoints)

    assert set(tally(balancer, range(100), NOW)) == {endpoints[1]}


def test_for_its_weight() -> None:
    endpoints = make_endpoints(2, [1, 4])
    endpoints[0].in_flight = 1
    endpoints[1].in_flight = 3
    balancer = LeastRequest(Random(1))
    balancer.update(endpoints)

    assert set(tally(balancer, range(100), NOW)) == {endpoints[1]}
