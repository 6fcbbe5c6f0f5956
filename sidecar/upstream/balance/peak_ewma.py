"""peak_ewma: two at random, the one with the lower expected latency for its weight.

The cost of an endpoint is a moving average of its latency that is sensitive to
peaks: a higher latency is believed at once, a lower one with time. After
Finagle's and Linkerd's balancer of that name.
"""

from collections.abc import Sequence
from math import exp
from typing import Final

from sidecar.upstream.balance.two_choices import TwoChoices
from sidecar.upstream.endpoint import Endpoint

# Seconds in which what is known of an endpoint loses all but 1/e of its worth.
DECAY: Final = 10.0

# An endpoint that was not heard of for so much longer than its rival says nothing
# any more. Without this bound its cost would fade to zero, and the burst that
# finds it there would all go to this one endpoint before its first answer.
_STALE = 3 * DECAY

# What an endpoint is taken for while nothing is known of any; equal for all of
# them, so that only what is in flight tells them apart.
_START = 0.001
# Long before any monotonic time.
_NEVER = -1e9

# Of two with unequal weights the first drawn is kept unless it is so many times as
# loaded: else the chance differences between their latencies would set the shares.
_NOISE = 2.0


class PeakEwma(TwoChoices):
    """load = cost * (in flight / weight + 1); `cost` in seconds, on the endpoint.

    Costs fade while an endpoint is not heard of, so that a slow one is tried again.
    A new or long unheard one is taken for an average one until it answers.
    """

    __slots__ = ()

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """Take a new set of usable endpoints; what is known of them stays."""
        super().update(endpoints)
        for endpoint in endpoints:
            if not endpoint.cost_at:
                endpoint.cost = _START
                endpoint.cost_at = _NEVER

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """One attempt took so many seconds to its response head."""
        cost = endpoint.cost
        if seconds >= cost:
            endpoint.cost = seconds
        else:
            past = now - endpoint.cost_at
            kept = exp(-past / DECAY) if past > 0.0 else 1.0
            endpoint.cost = cost * kept + seconds * (1.0 - kept)
        endpoint.cost_at = now

    def _better(self, one: Endpoint, other: Endpoint, one_weight: float = 1.0, other_weight: float = 1.0) -> Endpoint:
        # Fading both to now would scale both by the same factor; only how much longer
        # one of them fades than the other can change their order.
        ahead = one.cost_at - other.cost_at
        if not -_STALE < ahead < _STALE:
            self._refresh(one, other)
            ahead = 0.0
        one_load = one.cost * (one.in_flight / one_weight + 1.0)
        other_load = other.cost * (other.in_flight / other_weight + 1.0) * exp(-ahead / DECAY)
        if one_weight != other_weight:
            other_load *= _NOISE
        return one if one_load <= other_load else other

    def _refresh(self, one: Endpoint, other: Endpoint) -> None:
        """Take the staler of two for an average one: the median of what is known later."""
        stale, fresh = (one, other) if one.cost_at < other.cost_at else (other, one)
        known = sorted(peer.cost for peer in self._endpoints if peer.cost_at - stale.cost_at >= _STALE)
        stale.cost = known[(len(known) - 1) // 2]
        stale.cost_at = fresh.cost_at
