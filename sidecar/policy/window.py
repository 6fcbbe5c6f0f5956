"""Two counts over the last seconds, in O(1) per event and without per-event memory.

A ring of buckets holds what the running counts were when each bucket began, so
that an event is one addition and the window's count one subtraction.
"""

_BUCKETS = 10
_SHORTEST = 0.001


class Window:
    """`total` events and `hits` among them since the start; the difference to
    `base_total` and `base_hits` is what lies in the window.

    The window slides by a tenth of its length: it covers between 90 % and 100 %
    of `seconds`. Writers do `if now >= window.ends: window.rotate(now)` and then
    add to `total` and `hits` themselves: a call per event would cost more than
    the counting.
    """

    __slots__ = ("_hits", "_index", "_totals", "_width", "base_hits", "base_total", "ends", "hits", "total")

    def __init__(self, seconds: float) -> None:
        """A window of `seconds`; ValueError below a millisecond."""
        self.total = 0
        self.hits = 0
        self.base_total = 0
        self.base_hits = 0
        # When the bucket that is being filled ends; the first event begins one.
        self.ends = float("-inf")
        self._index = 0
        self._totals = [0] * _BUCKETS
        self._hits = [0] * _BUCKETS
        self.resize(seconds)

    def resize(self, seconds: float) -> None:
        """Change the length. What was counted stays and ages at the new pace."""
        if not seconds >= _SHORTEST:
            raise ValueError(f"a window of {seconds} s: the shortest is {_SHORTEST} s")
        self._width = seconds / _BUCKETS

    def rotate(self, now: float) -> None:
        """Drop the buckets that are older than the window at `now`."""
        if now - self.ends >= self._width * (_BUCKETS - 1):
            self.clear(now)
            return
        while now >= self.ends:
            self._index = (self._index + 1) % _BUCKETS
            self._totals[self._index] = self.total
            self._hits[self._index] = self.hits
            self.ends += self._width
        oldest = (self._index + 1) % _BUCKETS
        self.base_total = self._totals[oldest]
        self.base_hits = self._hits[oldest]

    def clear(self, now: float) -> None:
        """Forget everything; a bucket begins at `now`."""
        self._totals = [self.total] * _BUCKETS
        self._hits = [self.hits] * _BUCKETS
        self.base_total = self.total
        self.base_hits = self.hits
        self.ends = now + self._width

    def counts(self, now: float) -> tuple[int, int]:
        """The total and the hits in the window at `now`."""
        if now >= self.ends:
            self.rotate(now)
        return self.total - self.base_total, self.hits - self.base_hits
