"""The table's shares and stability."""

from collections import Counter

import pytest

from sidecar.upstream.balance.maglev import TABLE_SIZE, Maglev
from sidecar.upstream.endpoint import Endpoint
from tests.upstream.balance.endpoints import make_endpoints

NOW = 1000.0


def slots(endpoints: list[Endpoint]) -> list[Endpoint | None]:
    balancer = Maglev()
    balancer.update(endpoints)
    return [balancer.pick((), slot, NOW) for slot in range(TABLE_SIZE)]


def test_the_size_is_prime() -> None:
    """Else a skip would not lead through all slots."""
    assert all(TABLE_SIZE % divisor for divisor in range(2, int(TABLE_SIZE**0.5) + 1))


@pytest.mark.parametrize("count", [2, 3, 50, 300])
def test_equal_ones_differ_by_a_slot(count: int) -> None:
    shares = Counter(slots(make_endpoints(count))).values()

    assert max(shares) - min(shares) <= 1


def test_weights_are_exact_to_a_slot() -> None:
    endpoints = make_endpoints(4, [10, 5, 4, 1])

    shares = Counter(slots(endpoints))

    for endpoint in endpoints:
        assert abs(shares[endpoint] - TABLE_SIZE * endpoint.weight / 20) <= 2


def test_the_lightest_is_there() -> None:
    endpoints = make_endpoints(2, [1_000_000, 1])

    assert Counter(slots(endpoints))[endpoints[1]] == 1


def test_little_moves_beyond_what_must() -> None:
    endpoints = make_endpoints(20)
    before = slots(endpoints)

    after = slots(endpoints[1:])

    moved = sum(old is not new for old, new in zip(before, after, strict=True))
    must = before.count(endpoints[0])
    assert must <= moved < 1.5 * must


def test_the_order_of_the_set_is_nothing() -> None:
    endpoints = make_endpoints(9, [1, 2, 3] * 3)

    assert slots(endpoints) == slots(endpoints[::-1])


def test_the_same_set_again_costs_no_build() -> None:
    """As when a breaker goes from half-open to closed."""
    endpoints = make_endpoints(3)
    balancer = Maglev()
    balancer.update(endpoints)
    balancer.pick((), 1, NOW)
    table = balancer._table

    balancer.update(tuple(endpoints))

    assert balancer._table is table
