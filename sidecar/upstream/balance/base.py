"""The balancer's seam: sets are swapped whole, a pick never blocks."""

from collections.abc import Collection, Sequence
from typing import Protocol

from sidecar.upstream.endpoint import Endpoint


class Balancer(Protocol):
    """One load-balancing algorithm over the usable endpoints of one priority."""

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """Take a new set of usable endpoints. Called on changes, not per request."""

    def pick(self, tried: Collection[Endpoint], key: int, now: float) -> Endpoint | None:
        """An endpoint that is not in `tried`, or None. `tried` is empty at the first
        try. `key` is a 64-bit hash for ring_hash and maglev, others ignore it."""

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """One attempt took so many seconds to its response head."""
