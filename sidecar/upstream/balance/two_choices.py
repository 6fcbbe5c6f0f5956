"""Two endpoints at random, the better one of them: what peak_ewma and least_request share.

M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001):
nearly as even as comparing all, in constant time, and without the herd that
follows when many proxies see the same best endpoint.
"""

from collections.abc import Collection, Sequence
from itertools import permutations
from random import Random

from sidecar.upstream.balance.slow_start import ramp_end
from sidecar.upstream.endpoint import Endpoint

# Up to this many endpoints all ordered pairs are kept (240 tuples), so that one
# random number and one index draw a pair.
_PAIRED = 16


class TwoChoices:
    """Draws two distinct endpoints, each pair as likely; `_better` compares them.

    Pairs are ordered: on a tie the first is taken, and neither is first more often.
    """

    __slots__ = ("_endpoints", "_only", "_pairs", "_ramp_end", "_random", "_slow_start")

    def __init__(self, rng: Random, slow_start: float = 0.0) -> None:
        """`slow_start` in seconds, 0 for none."""
        self._random = rng.random
        self._slow_start = slow_start
        self.update(())

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """Take a new set of usable endpoints."""
        self._endpoints = tuple(endpoints)
        self._only = endpoints[0] if len(endpoints) == 1 else None
        self._pairs = tuple(permutations(endpoints, 2)) if len(endpoints) <= _PAIRED else ()
        self._ramp_end = ramp_end(endpoints, self._slow_start)

    def pick(self, tried: Collection[Endpoint], key: int, now: float) -> Endpoint | None:
        """The better of two that were not tried."""
        if tried:
            return self._pick_from([endpoint for endpoint in self._endpoints if endpoint not in tried], now)
        if self._only is not None:
            return self._only
        pairs = self._pairs
        if pairs:
            one, other = pairs[int(self._random() * len(pairs))]
            return self._better(one, other, now)
        return self._pick_from(self._endpoints, now)

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """One attempt took so many seconds to its response head."""

    def _pick_from(self, endpoints: Sequence[Endpoint], now: float) -> Endpoint | None:
        count = len(endpoints)
        if count < 2:
            return endpoints[0] if count else None
        # One draw for both: the second index skips the first.
        first, second = divmod(int(self._random() * (count * (count - 1))), count - 1)
        if second >= first:
            second += 1
        return self._better(endpoints[first], endpoints[second], now)

    def _better(self, one: Endpoint, other: Endpoint, now: float) -> Endpoint:
        """The one with less load for its weight."""
        raise NotImplementedError
