"""The ring's size, shares and order."""

from random import Random

import pytest

from sidecar.upstream.balance.ring_hash import MOST_POINTS, RingHash
from tests.upstream.balance.endpoints import make_endpoints, spread_keys, tally

NOW = 1000.0


def test_only_the_lost_ones_keys_move_while_the_ring_is_not_full() -> None:
    endpoints = make_endpoints(20)
    balancer = RingHash()
    balancer.update(endpoints)
    before = {key: balancer.pick((), key, NOW) for key in spread_keys(3000)}

    balancer.update(endpoints[:7] + endpoints[8:])

    moved = [owner for key, owner in before.items() if owner is not balancer.pick((), key, NOW)]
    assert set(moved) == {endpoints[7]}


def test_a_retry_goes_where_the_key_goes_once_the_tried_one_is_out() -> None:
    endpoints = make_endpoints(6)
    balancer, without = RingHash(), RingHash()
    balancer.update(endpoints)
    without.update(endpoints[1:])

    for key in spread_keys(500):
        assert balancer.pick([endpoints[0]], key, NOW) is without.pick((), key, NOW)


@pytest.mark.parametrize(
    "weights", [[1], [1, 1, 1], [1] * 100, [1] * 500, [100, 1], [1_000_000, 1], [10_000] * 3], ids=str
)
def test_the_ring_is_bounded_and_nobody_is_missing(weights: list[int]) -> None:
    endpoints = make_endpoints(len(weights), weights)
    balancer = RingHash()
    balancer.update(endpoints)

    ring = balancer._build()

    assert len(ring) <= MOST_POINTS + len(weights)
    assert {balancer._endpoints[point & 0xFFFFF] for point in ring} == set(endpoints)


def test_keys_at_both_ends_have_an_owner() -> None:
    endpoints = make_endpoints(3)
    balancer = RingHash()
    balancer.update(endpoints)

    assert balancer.pick((), 2**64 - 1, NOW) is balancer.pick((), 0, NOW), "the ring closes"


def test_shares_are_even_over_random_keys() -> None:
    rng = Random(11)
    endpoints = make_endpoints(8)
    balancer = RingHash()
    balancer.update(endpoints)

    picked = tally(balancer, [rng.getrandbits(64) for _ in range(16000)], NOW)

    assert all(picked[endpoint] == pytest.approx(2000, rel=0.25) for endpoint in endpoints)


def test_the_same_set_again_costs_no_build() -> None:
    """As when a breaker goes from half-open to closed."""
    endpoints = make_endpoints(3)
    balancer = RingHash()
    balancer.update(endpoints)
    balancer.pick((), 1, NOW)
    ring = balancer._ring

    balancer.update(tuple(endpoints))

    assert balancer._ring is ring
