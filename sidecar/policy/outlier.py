"""Which endpoints fail more than the others of their cluster do, and for how long they are out.

After Envoy's outlier detection by success rate, with the median in place of the mean: among
three or four endpoints none is ever far from a mean that it pulls down itself, and two bad
ones hide each other. See docs/adr/0027. Pure: time is given; imports nothing of ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median_high, median_low
from typing import Final, Generic, NamedTuple, TypeVar

# The standard deviation of a normal distribution, by its median deviation.
_PER_MEDIAN_DEVIATION: Final = 1.4826
# Success rates are taken to differ by this much without anybody being an outlier: were they
# all at 100 %, one failure would be one.
_LEAST_DEVIATION: Final = 0.05

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class OutlierPolicy:
    """Looks each `interval` seconds at the endpoints that had `min_requests` or more in it,
    when there are `min_endpoints` of them. Out is who is more than `stdev_factor` standard
    deviations below the median, for `base` seconds times the number of times, `max` at most.
    No more than `max_ejected` of all are out by whatever means.
    """

    interval: float = 10.0
    min_requests: int = 100
    min_endpoints: int = 3
    stdev_factor: float = 1.9
    base: float = 30.0
    max: float = 300.0
    max_ejected: float = 0.5


class Outlier(NamedTuple, Generic[K]):
    """One that is to go: its success rate, and the one below which everybody is an outlier."""

    key: K
    rate: float
    threshold: float


class _Seen:
    """What was counted up to the last look, how often it was out lately, and whether it was
    out since the last look."""

    __slots__ = ("failures", "successes", "times", "was_out")

    def __init__(self) -> None:
        self.successes = self.failures = self.times = 0
        self.was_out = False


class Outliers(Generic[K]):
    """One cluster's endpoints, by any key, from one look to the next."""

    __slots__ = ("_seen", "policy")

    def __init__(self, policy: OutlierPolicy) -> None:
        """Nobody is known."""
        self.policy = policy
        self._seen: dict[K, _Seen] = {}

    def look(self, counts: Mapping[K, tuple[int, int]], out: frozenset[K]) -> list[Outlier[K]]:
        """Who is an outlier, the worst first. `counts` are successes and failures since the
        start of everybody there is; `out` are those who are out already."""
        policy = self.policy
        rates: dict[K, float] = {}
        seen = self._seen
        self._seen = {}
        for key, (successes, failures) in counts.items():
            last = self._seen[key] = seen.get(key) or _Seen()
            total = successes - last.successes + failures - last.failures
            if total >= policy.min_requests and key not in out:
                rates[key] = (successes - last.successes) / total
            last.successes, last.failures = successes, failures
        found = self._below(rates)
        outliers = {outlier.key for outlier in found}
        for key, one in self._seen.items():
            # Who stayed in for a whole interval is forgiven, step by step.
            if one.times and not (one.was_out or key in out or key in outliers):
                one.times -= 1
            one.was_out = key in out
        return found

    def eject(self, key: K) -> float:
        """One of those that `look` found goes out: for how many seconds."""
        one = self._seen[key]
        one.times += 1
        one.was_out = True
        return min(self.policy.base * one.times, self.policy.max)

    def _below(self, rates: dict[K, float]) -> list[Outlier[K]]:
        policy = self.policy
        if len(rates) < policy.min_endpoints:
            return []
        # The better of two in the middle: half of them may be bad, and not hide it.
        middle = median_high(rates.values())
        deviation = _PER_MEDIAN_DEVIATION * median_low(abs(rate - middle) for rate in rates.values())
        threshold = middle - policy.stdev_factor * max(deviation, _LEAST_DEVIATION)
        found = [Outlier(key, rate, threshold) for key, rate in rates.items() if rate < threshold]
        return sorted(found, key=lambda outlier: outlier.rate)
