"""Plain numbers that the path adds to. `telemetry` reads them at scrape time.

No lock and no label lookup: one event loop writes, an increment is one slot.
"""

# Upper bounds in seconds, powers of two from 2^-12 (0.24 ms) to 2^7 (128 s): the
# bucket is the bit length of a whole number, so that recording costs no search.
BOUNDS = tuple(2.0**power for power in range(-12, 8))
_LAST = len(BOUNDS)
# A hair below 4096: a value that equals a bound belongs under it.
_SCALE = 4096 * (1 - 2.0**-50)


class Histogram:
    """Durations in seconds, in power-of-two buckets.

    `counts[i]` is the number of values at most BOUNDS[i] and above the bound
    before it; the last one holds what is above every bound.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (_LAST + 1)
        self.total = 0.0

    def record(self, seconds: float) -> None:
        """Add one duration, not negative."""
        self.total += seconds
        try:
            self.counts[int(seconds * _SCALE).bit_length()] += 1
        except IndexError:
            self.counts[_LAST] += 1

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
