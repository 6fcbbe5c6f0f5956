"""Each pick on its own."""

from random import Random

import pytest

from sidecar.upstream.balance.random_choice import RandomChoice
from tests.policy.breakers import FixedRandom
from tests.upstream.balance.endpoints import make_endpoints, tally

NOW = 1000.0


@pytest.mark.parametrize(("drawn", "index"), [(0.0, 0), (0.24, 0), (0.25, 1), (0.74, 1), (0.75, 2), (1 - 2**-53, 2)])
def test_an_endpoint_owns_its_share_of_the_numbers(drawn: float, index: int) -> None:
    endpoints = make_endpoints(3, [1, 2, 1])
    balancer = RandomChoice(FixedRandom(drawn))
    balancer.update(endpoints)

    assert balancer.pick((), 0, NOW) is endpoints[index]


def test_the_last_number_is_the_last_endpoint_whatever_the_sum() -> None:
    for count in range(1, 50):
        endpoints = make_endpoints(count, [3 + index % 7 for index in range(count)])
        balancer = RandomChoice(FixedRandom(1 - 2**-53))
        balancer.update(endpoints)

        assert balancer.pick((), 0, NOW) is endpoints[-1]


def test_a_returned_endpoint_ramps_up() -> None:
    endpoints = make_endpoints(2)
    endpoints[1].ready_since = NOW
    balancer = RandomChoice(Random(5), slow_start=10.0)
    balancer.update(endpoints)

    shares = [tally(balancer, range(4000), NOW + age)[endpoints[1]] / 4000 for age in (0.0, 5.0, 10.0)]

    assert shares == pytest.approx([0.1 / 1.1, 0.5 / 1.5, 0.5], rel=0.15)
