"""round_robin: in turn, smoothly weighted.

nginx's algorithm: each endpoint gains its weight per pick, the one that has most
is picked and pays the sum of all. Weights 5, 1, 1 give a a b a c a a, where the
plain form would give five in a row.
"""

from collections.abc import Collection, Sequence
from math import gcd
from random import Random

from sidecar.upstream.balance.random_choice import draw
from sidecar.upstream.balance.slow_start import effective_weight, ramp_end
from sidecar.upstream.endpoint import Endpoint

# The order repeats after as many picks as the weights sum up to. It is kept up
# to this length; beyond it every pick runs the algorithm, O(endpoints).
_LONGEST = 4096


class RoundRobin:
    """The cycle is kept as far as it was walked once: from then on a pick is an index.

    It starts at a random endpoint, so that many sidecars that get the same set at
    the same time do not all begin with the same one. A retry draws by weight from
    what is left: turns belong to first tries, or failures would skew the cycle.
    """

    __slots__ = (
        "_credits",
        "_cycle",
        "_endpoints",
        "_period",
        "_position",
        "_ramp_end",
        "_random",
        "_slow_start",
        "_weights",
    )

    def __init__(self, rng: Random, slow_start: float = 0.0) -> None:
        """`slow_start` in seconds, 0 for none."""
        self._random = rng.random
        self._slow_start = slow_start
        self._position = 0
        self.update(())

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """Take a new set of usable endpoints."""
        start = int(self._random() * len(endpoints))
        self._endpoints = (*endpoints[start:], *endpoints[:start])
        divisor = gcd(*(endpoint.weight for endpoint in endpoints))
        self._weights = [endpoint.weight // divisor for endpoint in self._endpoints]
        self._ramp_end = ramp_end(endpoints, self._slow_start)
        self._begin()

    def pick(self, tried: Collection[Endpoint], key: int, now: float) -> Endpoint | None:
        """The next in turn; for a retry any that was not tried."""
        if tried:
            left = [endpoint for endpoint in self._endpoints if endpoint not in tried]
            return draw(left, self._slow_start, now, self._random)
        if self._ramp_end:
            return self._ramping(now)
        position = self._position
        cycle = self._cycle
        if position < len(cycle):
            self._position = position + 1
            return cycle[position]
        return self._advance()

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Nothing is learnt from latency."""

    def _begin(self) -> None:
        self._position = 0
        self._credits = [0.0] * len(self._endpoints)
        self._period = sum(self._weights)
        # Equal weights: the set is its own cycle.
        self._cycle: list[Endpoint] = list(self._endpoints) if self._period == len(self._endpoints) else []

    def _advance(self) -> Endpoint | None:
        """A pick at the end of what is known of the cycle."""
        if not self._endpoints:
            return None
        if len(self._cycle) == self._period:
            self._position = 1
            return self._cycle[0]
        endpoint = self._step(self._weights)
        if self._period <= _LONGEST:
            self._cycle.append(endpoint)
            self._position += 1
        return endpoint

    def _ramping(self, now: float) -> Endpoint | None:
        """Weights change with time while an endpoint ramps: there is no cycle."""
        if now >= self._ramp_end:
            self._ramp_end = 0.0
            self._begin()
            return self._advance()
        return self._step([effective_weight(endpoint, self._slow_start, now) for endpoint in self._endpoints])

    def _step(self, weights: Sequence[float]) -> Endpoint:
        gains = self._credits
        best = 0
        for index, weight in enumerate(weights):
            gains[index] += weight
            if gains[index] > gains[best]:
                best = index
        gains[best] -= sum(weights)
        return self._endpoints[best]
