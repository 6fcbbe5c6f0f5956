"""The order of turns."""

from random import Random

import pytest

from sidecar.upstream.balance.round_robin import RoundRobin
from sidecar.upstream.endpoint import Endpoint
from tests.policy.breakers import FixedRandom
from tests.upstream.balance.endpoints import make_endpoints

NOW = 1000.0


def turns(balancer: RoundRobin, count: int, now: float = NOW) -> list[Endpoint | None]:
    return [balancer.pick((), 0, now) for _ in range(count)]


def test_equal_ones_take_turns() -> None:
    a, b, c = make_endpoints(3)
    balancer = RoundRobin(FixedRandom(0.0))
    balancer.update([a, b, c])

    assert turns(balancer, 7) == [a, b, c, a, b, c, a]


def test_weighted_turns_are_smooth() -> None:
    a, b, c = make_endpoints(3, [5, 1, 1])
    balancer = RoundRobin(FixedRandom(0.0))
    balancer.update([a, b, c])

    assert turns(balancer, 14) == [a, a, b, a, c, a, a] * 2


def test_common_factors_change_nothing() -> None:
    a, b = make_endpoints(2, [200, 100])
    balancer = RoundRobin(FixedRandom(0.0))
    balancer.update([a, b])

    assert turns(balancer, 6) == [a, b, a] * 2


def test_shares_are_exact_also_where_the_cycle_is_too_long_to_keep() -> None:
    endpoints = make_endpoints(3, [4001, 1999, 3001])
    balancer = RoundRobin(FixedRandom(0.0))
    balancer.update(endpoints)

    picked = turns(balancer, 9001)

    assert [picked.count(endpoint) for endpoint in endpoints] == [4001, 1999, 3001]
    assert not balancer._cycle


def test_starts_at_a_random_one() -> None:
    endpoints = make_endpoints(5)
    starts = set()
    for seed in range(50):
        balancer = RoundRobin(Random(seed))
        balancer.update(endpoints)
        starts.add(balancer.pick((), 0, NOW))

    assert starts == set(endpoints)


def test_a_retry_takes_nobodys_turn() -> None:
    a, b, c = make_endpoints(3)
    balancer = RoundRobin(FixedRandom(0.0))
    balancer.update([a, b, c])
    assert turns(balancer, 1) == [a]

    assert balancer.pick([a], 0, NOW) in (b, c)

    assert turns(balancer, 3) == [b, c, a]


def test_ramps_and_then_takes_equal_turns() -> None:
    a, b = make_endpoints(2)
    b.ready_since = NOW
    balancer = RoundRobin(FixedRandom(0.0), slow_start=10.0)
    balancer.update([a, b])

    shares = [turns(balancer, 300, NOW + age).count(b) / 300 for age in (0.0, 5.0)]

    assert shares == pytest.approx([0.1 / 1.1, 0.5 / 1.5], abs=0.01)
    assert turns(balancer, 4, NOW + 10.0) == [a, b, a, b]
