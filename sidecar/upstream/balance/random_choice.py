"""random: each pick on its own, in proportion to the weights."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from random import Random

from sidecar.upstream.balance.slow_start import effective_weight, ramp_end
from sidecar.upstream.endpoint import Endpoint


def draw(endpoints: Sequence[Endpoint], slow_start: float, now: float, random: Callable[[], float]) -> Endpoint | None:
    """One of these at random by its weight at `now`; None of none. O(endpoints)."""
    if not endpoints:
        return None
    sums = list(accumulate(effective_weight(endpoint, slow_start, now) for endpoint in endpoints))
    # random() is at most 1 - 2^-53: its product with a sum never rounds up to the sum.
    return endpoints[bisect_right(sums, random() * sums[-1])]


class RandomChoice:
    """Running sums of the weights, and a binary search in them."""

    __slots__ = ("_count", "_endpoints", "_ramp_end", "_random", "_slow_start", "_sums", "_total")

    def __init__(self, rng: Random, slow_start: float = 0.0) -> None:
        """`slow_start` in seconds, 0 for none."""
        self._random = rng.random
        self._slow_start = slow_start
        self.update(())

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """Take a new set of usable endpoints."""
        self._endpoints = tuple(endpoints)
        self._count = len(endpoints)
        weights = [endpoint.weight for endpoint in endpoints]
        # Equal weights need no search.
        self._sums = list(accumulate(weights)) if len(set(weights)) > 1 else []
        self._total = sum(weights)
        self._ramp_end = ramp_end(endpoints, self._slow_start)

    def pick(self, tried: Collection[Endpoint], key: int, now: float) -> Endpoint | None:
        """Any that was not tried."""
        endpoints = self._endpoints
        if tried:
            left = [endpoint for endpoint in endpoints if endpoint not in tried]
            return draw(left, self._slow_start, now, self._random)
        if now < self._ramp_end:
            return draw(endpoints, self._slow_start, now, self._random)
        if self._sums:
            return endpoints[bisect_right(self._sums, self._random() * self._total)]
        if endpoints:
            return endpoints[int(self._random() * self._count)]
        return None

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Nothing is learnt from latency."""
