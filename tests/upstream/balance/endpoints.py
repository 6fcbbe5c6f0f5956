"""Endpoints for balancer tests."""

from collections import Counter
from collections.abc import Iterable

from sidecar.model.address import Address
from sidecar.upstream.balance.base import Balancer
from sidecar.upstream.endpoint import Endpoint
from tests.policy.breakers import make_breaker
from tests.support.clock import FakeClock


def make_endpoints(count: int, weights: Iterable[int] = ()) -> list[Endpoint]:
    """10.0.0.1:80 and so on; all of weight 1 unless `weights` says otherwise."""
    given = list(weights) or [1] * count
    return [
        Endpoint(Address(f"10.0.{index // 250}.{index % 250 + 1}", 80), make_breaker(FakeClock()), weight)
        for index, weight in zip(range(count), given, strict=True)
    ]


def spread_keys(count: int) -> list[int]:
    """`count` keys, evenly over 64 bits (Knuth's multiplicative hash)."""
    return [index * 0x9E3779B97F4A7C15 % 2**64 for index in range(count)]


def tally(balancer: Balancer, keys: Iterable[int], now: float) -> Counter[Endpoint | None]:
    """How often each endpoint was picked, one pick per key, nothing in flight."""
    return Counter(balancer.pick((), key, now) for key in keys)
