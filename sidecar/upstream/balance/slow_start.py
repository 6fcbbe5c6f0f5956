"""Slow start: an endpoint that came back takes its share of the load step by step.

Cold caches and pools make the first requests of a returned endpoint expensive;
all of its share at once can send it straight back.
"""

from collections.abc import Iterable

from sidecar.upstream.endpoint import Endpoint

# The share of its weight that an endpoint has when it comes back.
_FIRST = 0.1


def ramp_end(endpoints: Iterable[Endpoint], seconds: float) -> float:
    """When the last of these endpoints has its full weight: a monotonic time, or 0.0.

    Balancers compare it with the time of a pick, so that slow start costs one
    comparison while nothing ramps. It is computed in `update`: `ready_since` is
    to be set before the set is given to the balancer.
    """
    if seconds <= 0.0:
        return 0.0
    returned = max((endpoint.ready_since for endpoint in endpoints), default=0.0)
    return returned + seconds if returned > 0.0 else 0.0


def effective_weight(endpoint: Endpoint, seconds: float, now: float) -> float:
    """The weight at `now`: from 10 % when it came back to 100 % after `seconds`, linear."""
    if endpoint.ready_since <= 0.0:
        return endpoint.weight
    elapsed = now - endpoint.ready_since
    if elapsed >= seconds:
        return endpoint.weight
    return endpoint.weight * max(_FIRST, elapsed / seconds)
