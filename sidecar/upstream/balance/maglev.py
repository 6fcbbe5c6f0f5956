"""maglev: the same key to the same endpoint, by one look into a table.

D. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer"
(NSDI 2016), section 3.4. More even than a ring; a few more keys move when the
set changes. The table depends on names and weights alone: all sidecars agree.
"""

from collections.abc import Collection, Sequence
from typing import Final

from xxhash import xxh3_64_intdigest

from sidecar.upstream.endpoint import Endpoint

# A prime. The paper's 65537 takes 12 to 25 ms to fill, which every request would
# wait for at every change of the set; this takes 3 to 6 ms and keeps shares within
# 1 % up to 160 endpoints (the paper asks for 100 slots each). It is one size for
# all: a size by the number of endpoints would move all keys when it changes.
TABLE_SIZE: Final = 16381

# Two independent hashes of a name.
_OFFSET_SEED = 0
_SKIP_SEED = 1


class Maglev:
    """Endpoints take turns at the slots of the table, each in an order of its own."""

    __slots__ = ("_endpoints", "_members", "_only", "_table")

    def __init__(self) -> None:
        self._members: list[tuple[Endpoint, int]] | None = None
        self.update(())

    def update(self, endpoints: Sequence[Endpoint]) -> None:
        """Take a new set of usable endpoints. The table is filled at the next pick:
        several changes in a row cost one build, and a set that is the same costs none."""
        members = [(endpoint, endpoint.weight) for endpoint in endpoints]
        if members == self._members:
            return
        self._members = members
        # Turns are in order of names: resolvers give the same set in any order.
        self._endpoints = sorted(endpoints, key=lambda endpoint: endpoint.name)
        self._only = endpoints[0] if len(endpoints) == 1 else None
        self._table: list[Endpoint] = []

    def pick(self, tried: Collection[Endpoint], key: int, now: float) -> Endpoint | None:
        """The owner of `key`'s slot; for a retry the next slot's that was not tried."""
        if tried:
            return self._pick_untried(tried, key)
        if self._only is not None:
            return self._only
        table = self._table
        if not table:
            if not self._endpoints:
                return None
            table = self._table = _fill(self._endpoints)
        return table[key % TABLE_SIZE]

    def observe(self, endpoint: Endpoint, seconds: float, now: float) -> None:
        """Nothing is learnt from latency."""

    def _pick_untried(self, tried: Collection[Endpoint], key: int) -> Endpoint | None:
        # Looked at first: with none left the walk would go through the whole table.
        if all(endpoint in tried for endpoint in self._endpoints):
            return None
        if not self._table:
            self._table = _fill(self._endpoints)
        for slot in range(key, key + TABLE_SIZE):
            endpoint = self._table[slot % TABLE_SIZE]
            if endpoint not in tried:
                return endpoint
        return None


def _fill(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The table. In each round the heaviest endpoint takes one slot, the others
    as often as their weight is due; everybody in the first round."""
    names = [endpoint.name.encode() for endpoint in endpoints]
    nexts = [xxh3_64_intdigest(name, _OFFSET_SEED) % TABLE_SIZE for name in names]
    skips = [xxh3_64_intdigest(name, _SKIP_SEED) % (TABLE_SIZE - 1) + 1 for name in names]
    heaviest = max(endpoint.weight for endpoint in endpoints)
    dues = [heaviest - endpoint.weight for endpoint in endpoints]
    table: list[Endpoint | None] = [None] * TABLE_SIZE
    taken: list[Endpoint] = []
    while True:
        for index, endpoint in enumerate(endpoints):
            dues[index] += endpoint.weight
            if dues[index] < heaviest:
                continue
            dues[index] -= heaviest
            slot = nexts[index]
            skip = skips[index]
            while table[slot] is not None:
                slot = (slot + skip) % TABLE_SIZE
            table[slot] = endpoint
            nexts[index] = (slot + skip) % TABLE_SIZE
            taken.append(endpoint)
            if len(taken) == TABLE_SIZE:
                return [owner for owner in table if owner is not None]
