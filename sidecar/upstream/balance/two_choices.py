"""Two endpoints at random, the better one of them: what peak_ewma and least_request share.

M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001):
nearly as even as comparing all, in constant time, and without the herd that
follows when many proxies see the same best endpoint.
"""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import accumulate, permutations
from random import Random

from sidecar.upstream.balance.slow_start import effective_weight, ramp_end
from sidecar.upstream.endpoint import Endpoint

# Up to this many endpoints all ordered pairs are kept (240 tuples), so that one
# random number and one index draw a pair.
_PAIRED = 16


class TwoChoices:
    """Draws two distinct endpoints by weight; `_better` compares them.

    The first drawn wins a tie, so that shares follow the weights also when nothing
    is in flight. Load divided by weight alone would, with nothing in flight, send
    everything to the heaviest and nothing at all to one in slow start.
    """

    __slots__ = ("_endpoints", "_only", "_pairs", "_ramp_end", "_random", "_slow_start", "_sums")

    def __init__(self, rng: Random, slow_start: float = 0.0) -> None:
        """`slow_start` in seconds, 0 for none."""
        self._random = rng.random
        self._slow_start = slow_start
        self.update(())

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """Take a new set of usable endpoints."""
        self._endpoints = tuple(endpoints)
        self._only = endpoints[0] if len(endpoints) == 1 else None
        even = len({endpoint.weight for endpoint in endpoints}) < 2
        self._pairs = tuple(permutations(endpoints, 2)) if even and len(endpoints) <= _PAIRED else ()
        # Running sums of the weights, where these are not all the same.
        self._sums: list[float] = [] if even else list(accumulate(endpoint.weight for endpoint in endpoints))
        self._ramp_end = ramp_end(endpoints, self._slow_start)

    def pick(self, tried: Collection[Endpoint], key: int, now: float) -> Endpoint | None:
        """The better of two that were not tried."""
        if tried:
            return self._draw([endpoint for endpoint in self._endpoints if endpoint not in tried], now)
        if self._only is not None:
            return self._only
        if now < self._ramp_end:
            return self._draw(self._endpoints, now)
        pairs = self._pairs
        if pairs:
            one, other = pairs[int(self._random() * len(pairs))]
            return self._better(one, other)
        if self._sums:
            return self._draw_weighted(self._endpoints, self._sums)
        return self._draw_even(self._endpoints)

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """One attempt took so many seconds to its response head."""

    def _better(self, one: Endpoint, other: Endpoint, one_weight: float = 1.0, other_weight: float = 1.0) -> Endpoint:
        """The one with less load; `one` when there is nothing between them.

        A weight is relative to the mean weight.
        """
        raise NotImplementedError

    def _draw(self, endpoints: Sequence[Endpoint], now: float) -> Endpoint | None:
        """From any set, by the weights at `now`. O(endpoints): for retries and slow starts."""
        if len(endpoints) < 2:
            return endpoints[0] if endpoints else None
        weights = (effective_weight(endpoint, self._slow_start, now) for endpoint in endpoints)
        return self._draw_weighted(endpoints, list(accumulate(weights)))

    def _draw_even(self, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        count = len(endpoints)
        if not count:
            return None
        # One random number for both: the second index skips the first.
        first, second = divmod(int(self._random() * (count * (count - 1))), count - 1)
        if second >= first:
            second += 1
        return self._better(endpoints[first], endpoints[second])

    def _draw_weighted(self, endpoints: Sequence[Endpoint], sums: Sequence[float]) -> Endpoint:
        total = sums[-1]
        first = bisect_right(sums, self._random() * total)
        start = sums[first - 1] if first else 0.0
        one_weight = sums[first] - start
        # The second out of what is left when the first one's interval is cut out.
        point = self._random() * (total - one_weight)
        second = bisect_right(sums, point if point < start else point + one_weight)
        if second == first or second == len(sums):
            # Only rounding leads here.
            return endpoints[first]
        other_weight = sums[second] - (sums[second - 1] if second else 0.0)
        mean = total / len(sums)
        return self._better(endpoints[first], endpoints[second], one_weight / mean, other_weight / mean)
