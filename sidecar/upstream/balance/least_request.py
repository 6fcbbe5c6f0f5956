"""least_request: two at random, the one with fewer requests in flight for its weight."""

from sidecar.upstream.balance.two_choices import TwoChoices
from sidecar.upstream.endpoint import Endpoint


class LeastRequest(TwoChoices):
    """load = in flight / weight."""

    __slots__ = ()

    def _better(self, one: Endpoint, other: Endpoint, one_weight: float = 1.0, other_weight: float = 1.0) -> Endpoint:
        # a / v <= b / w without the division.
        return one if one.in_flight * other_weight <= other.in_flight * one_weight else other
