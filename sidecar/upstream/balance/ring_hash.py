"""ring_hash: the same key to the same endpoint, and few keys move when one goes.

D. Karger et al., "Consistent Hashing and Random Trees" (1997); many points per
endpoint as in ketama. Points depend on the address alone: all sidecars agree.
"""

from array import array
from bisect import bisect_right
from collections.abc import Collection, Sequence
from typing import Final

from xxhash import xxh3_64_intdigest

from sidecar.upstream.endpoint import Endpoint

# Per unit of weight: about 6 % deviation from an even share.
_POINTS = 256
# On the whole ring; what bounds the time that a new set takes (about 5 ms).
MOST_POINTS: Final = 16384

# A point is a position on the ring with its owner's index in the low bits, so
# that the ring is one flat array of integers.
_OWNER = (1 << 20) - 1


class RingHash:
    """A key belongs to the first point after it."""

    __slots__ = ("_endpoints", "_members", "_only", "_ring")

    def __init__(self) -> None:
        self._members: list[tuple[Endpoint, int]] | None = None
        self.update(())

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """Take a new set of usable endpoints. The ring is built at the next pick:
        several changes in a row cost one build, and a set that is the same costs none."""
        members = [(endpoint, endpoint.weight) for endpoint in endpoints]
        if members == self._members:
            return
        self._members = members
        self._endpoints = tuple(endpoints)
        self._only = endpoints[0] if len(endpoints) == 1 else None
        self._ring = array("Q")

    def pick(self, tried: Collection[Endpoint], key: int, now: float) -> Endpoint | None:
        """The owner of `key`; for a retry the next on the ring that was not tried."""
        if tried:
            return self._pick_untried(tried, key)
        if self._only is not None:
            return self._only
        ring = self._ring or self._build()
        if not ring:
            return None
        index = bisect_right(ring, key)
        return self._endpoints[ring[index if index < len(ring) else 0] & _OWNER]

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Nothing is learnt from latency."""

    def _pick_untried(self, tried: Collection[Endpoint], key: int) -> Endpoint | None:
        # Looked at first: with none left the walk would go all the way round.
        if all(endpoint in tried for endpoint in self._endpoints):
            return None
        ring = self._ring or self._build()
        start = bisect_right(ring, key)
        for index in range(start, start + len(ring)):
            endpoint = self._endpoints[ring[index % len(ring)] & _OWNER]
            if endpoint not in tried:
                return endpoint
        return None

    def _build(self) -> "array[int]":
        shares = _shares([endpoint.weight for endpoint in self._endpoints])
        points: list[int] = []
        for owner, (endpoint, share) in enumerate(zip(self._endpoints, shares, strict=True)):
            name = endpoint.name.encode()
            points.extend((xxh3_64_intdigest(name, seed) & ~_OWNER) | owner for seed in range(share))
        points.sort()
        self._ring = array("Q", points)
        return self._ring


def _shares(weights: Sequence[int]) -> list[int]:
    """Points per endpoint. As long as all fit, a share depends on its own weight
    alone, so that only a lost endpoint's keys move; beyond, all shrink together,
    and at most as many again move between the others."""
    scale = min(_POINTS, MOST_POINTS / max(1, sum(weights)))
    return [max(1, int(weight * scale)) for weight in weights]
