"""A second try beside a slow first one: after how long, and how often.

After J. Dean and L. A. Barroso, "The Tail at Scale" (2013): who asks twice only where an
answer takes longer than nearly all of them do pays a few percent more work for most of the
tail. See docs/adr/0026. Pure: time is given; imports policies only.
"""

from dataclasses import dataclass
from math import ceil, frexp, ldexp
from typing import Final

from sidecar.policy.budget import Budget
from sidecar.policy.window import Window

# What became of hedges: the second try's answer was taken, or the first one's, or neither
# had one that was any good.
MADE: Final = ("won", "lost", "failed")
# Why one that was due was not made.
NOT_MADE: Final = ("not_idempotent", "incomplete", "too_large", "overloaded", "no_endpoint", "budget")

# The share is taken over this many seconds, as that of retries.
_SECONDS: Final = 10.0

# A quantile says nothing before so many answers were slower than it, or there were so few.
_BEYOND: Final = 5
_FEWEST: Final = 50

# Latency is remembered for once to twice this time, in seconds, or as long as it takes for
# so many answers to come.
_GENERATION: Final = 10.0
# A quantile is worked out anew no more often.
_FRESH: Final = 0.1

# Buckets of a histogram: eight to each power of two from 2^-14 s (61 us) to 2^7 s.
_STEPS: Final = 8
_LOWEST: Final = -14
_BUCKETS: Final = (7 - _LOWEST) * _STEPS


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """When a second try is due: after `seconds`, or where that is 0.0 after this
    `quantile` (0.5 to 0.99) of the cluster's latency."""

    quantile: float = 0.95
    seconds: float = 0.0


class Latencies:
    """How long the answers of the last while took, to an eighth of a power of two.

    Two generations of counts: the older one goes as a whole when the younger has lasted
    for 10 s and holds enough answers to speak for itself.
    """

    __slots__ = ("_counts", "_ends", "_known", "_needed", "_older", "_older_total", "_total")

    def __init__(self, now: float) -> None:
        """Nothing is known."""
        self._counts = [0] * _BUCKETS
        self._older = [0] * _BUCKETS
        self._total = self._older_total = 0
        self._ends = now + _GENERATION
        self._needed = _FEWEST
        # By quantile: until when it stands, and what it is.
        self._known: dict[float, tuple[float, float]] = {}

    def add(self, seconds: float, now: float) -> None:
        """One answer took so long."""
        if now >= self._ends and self._total >= self._needed:
            self._older, self._older_total = self._counts, self._total
            self._counts, self._total = [0] * _BUCKETS, 0
            self._ends = now + _GENERATION
        fraction, power = frexp(seconds)
        index = (power - 1 - _LOWEST) * _STEPS + int((2 * fraction - 1) * _STEPS) if seconds > 0 else 0
        self._counts[min(max(index, 0), _BUCKETS - 1)] += 1
        self._total += 1

    def quantile(self, q: float, now: float) -> float | None:
        """An upper bound of the q-quantile in seconds; None while too little is known."""
        needed = max(_FEWEST, ceil(_BEYOND / (1 - q)))
        if needed > self._needed:
            self._needed = needed
        total = self._total + self._older_total
        if total < needed:
            return None
        until, value = self._known.get(q, (now, 0.0))
        if now >= until:
            value = self._work_out(q * total)
            self._known[q] = (now + _FRESH, value)
        return value

    def _work_out(self, wanted: float) -> float:
        seen = 0
        for index, (young, old) in enumerate(zip(self._counts, self._older, strict=True)):
            seen += young + old
            if seen >= wanted:
                power, step = divmod(index, _STEPS)
                return ldexp(1 + (step + 1) / _STEPS, power + _LOWEST)
        raise AssertionError("a quantile is within what was counted")


class Hedging:
    """What a cluster knows of its hedges: latency, what they may cost, what became of them.

    Hedges may be `share` of the cluster's requests of the last 10 s; where these are few,
    one for each 1 / `share` requests since the last one.
    """

    __slots__ = ("_hedges", "_paid", "_share", "latencies", "results")

    def __init__(self, share: float, now: float) -> None:
        """No request was made, so no hedge may be."""
        self._hedges = Window(_SECONDS)
        self._paid = 0  # how many requests there had been at the last hedge
        self.latencies = Latencies(now)
        self.results = dict.fromkeys((*MADE, *NOT_MADE), 0)
        self.configure(share)

    def configure(self, share: float) -> None:
        """Change the share in place: what was counted stays."""
        self._share = share

    def delay(self, policy: HedgePolicy, now: float) -> float | None:
        """Seconds after which a second try is due; None while too little is known."""
        return policy.seconds or self.latencies.quantile(policy.quantile, now)

    def try_withdraw(self, requests: Budget, now: float) -> bool:
        """Take one hedge; False takes none. `requests` has counted the cluster's requests."""
        hedges, _ = self._hedges.counts(now)
        if hedges + 1 > self._share * requests.requests(now) and (requests.ever - self._paid) * self._share < 1:
            return False
        self._hedges.total += 1
        self._paid = requests.ever
        return True
