"""Plain numbers that the path adds to. `telemetry` reads them at scrape time.

No lock and no label lookup: one event loop writes, an increment is one slot.
"""

from math import frexp

# Upper bounds in seconds, powers of two from 2^-12 (0.24 ms) to 2^7 (128 s): a
# float's exponent is the bucket, so that recording costs no search.
_LOWEST = -12
_HIGHEST = 7
BOUNDS = tuple(2.0**power for power in range(_LOWEST, _HIGHEST + 1))


class Histogram:
    """Durations in seconds, in power-of-two buckets.

    `counts[i]` is the number of values at most BOUNDS[i] and above the bound
    before it; the last one holds what is above every bound.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def record(self, seconds: float) -> None:
        """Add one duration."""
        self.total += seconds
        mantissa, exponent = frexp(seconds)
        # frexp gives seconds = mantissa * 2^exponent with mantissa in [0.5, 1):
        # exactly a power of two has mantissa 0.5 and belongs one bucket lower.
        index = exponent - _LOWEST - (mantissa == 0.5)
        if index < 0 or seconds <= 0:
            index = 0
        elif index > len(BOUNDS):
            index = len(BOUNDS)
        self.counts[index] += 1

    @property
    def count(self) -> int:
        """How many durations were recorded."""
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """An upper bound of the q-quantile in seconds, 0.0 when empty."""
        wanted = q * self.count
        seen = 0
        for index, number in enumerate(self.counts):
            seen += number
            if number and seen >= wanted:
                return BOUNDS[min(index, len(BOUNDS) - 1)]
        return 0.0
