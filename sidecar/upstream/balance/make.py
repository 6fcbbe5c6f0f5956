"""From the name in the YAML to a balancer."""

from random import Random
from typing import Final

from sidecar.upstream.balance.base import Balancer
from sidecar.upstream.balance.least_request import LeastRequest
from sidecar.upstream.balance.maglev import Maglev
from sidecar.upstream.balance.peak_ewma import PeakEwma
from sidecar.upstream.balance.random_choice import RandomChoice
from sidecar.upstream.balance.ring_hash import RingHash
from sidecar.upstream.balance.round_robin import RoundRobin

POLICIES: Final = ("peak_ewma", "least_request", "round_robin", "random", "ring_hash", "maglev")


def make_balancer(policy: str, *, rng: Random, slow_start: float) -> Balancer:
    """The balancer of that name, with no endpoints yet; ValueError for an unknown one.

    `slow_start` in seconds, 0 for none. Hashing knows no slow start: a key has one place.
    """
    match policy:
        case "peak_ewma":
            return PeakEwma(rng, slow_start)
        case "least_request":
            return LeastRequest(rng, slow_start)
        case "round_robin":
            return RoundRobin(rng, slow_start)
        case "random":
            return RandomChoice(rng, slow_start)
        case "ring_hash":
            return RingHash()
        case "maglev":
            return Maglev()
    raise ValueError(f"{policy!r} is no balancing policy: {', '.join(POLICIES)}")
