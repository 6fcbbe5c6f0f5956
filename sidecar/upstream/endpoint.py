"""One address of a cluster, with everything that is known about it.

The endpoint is where load, breaker, pools and meters live, so that a reload can
carry them over by address and the path finds them without a lookup.
"""

from typing import TYPE_CHECKING

from sidecar.model.address import Address
from sidecar.model.meters import Histogram
from sidecar.policy.breaker import OPEN, Breaker

if TYPE_CHECKING:
    from sidecar.upstream.pool import Pool


class Endpoint:
    """State of one address. `weight` is at least 1, `priority` 0 is tried first."""

    __slots__ = (
        "address",
        "breaker",
        "complaint",
        "cost",
        "cost_at",
        "drained_until",
        "durations",
        "ejected",
        "ejections",
        "healthy",
        "in_flight",
        "name",
        "pools",
        "priority",
        "ready_since",
        "stage",
        "trouble",
        "verdicts",
        "weight",
        "zone",
    )

    def __init__(self, address: Address, breaker: Breaker, weight: int = 1, zone: str = "", priority: int = 0) -> None:
        self.address = address
        self.name = str(address)
        self.breaker = breaker
        self.weight = weight
        self.zone = zone
        self.priority = priority
        # What the health checker last said; True where nothing checks.
        self.healthy = True
        self.complaint = ""  # why it is not
        # A monotonic time until which an operator took it out; 0.0 for not at all.
        self.drained_until = 0.0
        # Whether it fails more than the others and is left alone for that, and how often it was.
        self.ejected = False
        self.ejections = 0
        # When it last became usable, for slow start; 0.0 for "since the start".
        self.ready_since = 0.0
        # Why the last dial failed, and what one that is under way waits for, in words for clients;
        # "" where there is nothing to say.
        self.trouble = self.stage = ""
        self.in_flight = 0
        # Peak-EWMA latency in seconds, and when it was last decayed.
        self.cost = 0.0
        self.cost_at = 0.0
        self.pools: dict[str, Pool] = {}
        # Attempts by Verdict.
        self.verdicts = [0, 0, 0, 0]
        self.durations = Histogram()

    def usable(self, now: float) -> bool:
        """Whether a balancer may pick it: healthy, not drained, not ejected, breaker not open."""
        return self.healthy and not self.ejected and self.drained_until <= now and self.breaker.state != OPEN

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"
