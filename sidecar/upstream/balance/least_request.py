"""least_request: two at random, the one with fewer requests in flight for its weight."""

from sidecar.upstream.balance.slow_start import effective_weight
from sidecar.upstream.balance.two_choices import TwoChoices
from sidecar.upstream.endpoint import Endpoint


class LeastRequest(TwoChoices):
    """load = (in flight + 1) / weight: the one counts the request that is to be placed."""

    __slots__ = ()

    def _better(self, one: Endpoint, other: Endpoint, now: float) -> Endpoint:
        one_weight: float = one.weight
        other_weight: float = other.weight
        if now < self._ramp_end:
            one_weight = effective_weight(one, self._slow_start, now)
            other_weight = effective_weight(other, self._slow_start, now)
        # a / v <= b / w without the division.
        if (one.in_flight + 1) * other_weight <= (other.in_flight + 1) * one_weight:
            return one
        return other
