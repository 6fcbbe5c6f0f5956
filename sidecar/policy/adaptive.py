"""How many requests a cluster's endpoints take at once, learned from their latency.

After Netflix's concurrency-limits (Gradient2) and Envoy's adaptive concurrency filter:
the limit follows the ratio between the latency without a queue and the latency now.
Both let the former go wrong for long (a drifting average; a measurement that throttles
to a handful of requests): here it corrects itself at the price of a few windows at a
lower limit, and only while requests are refused anyway. See docs/adr/0024.

Pure: time and randomness are given; imports nothing of ours.
"""

from dataclasses import dataclass
from math import inf, sqrt
from random import Random
from statistics import median
from typing import Final

# A window says nothing before it has so many samples; beyond the most, the later ones
# of a long window tell nothing new.
_SAMPLES: Final = 25
_MOST_SAMPLES: Final = 1000

# A window lasts so many median latencies at least, but not longer than this, in seconds.
# After a cut it counts what begins in its first part only, and waits for the answers:
# else the quick ones would speak for all.
_LATENCIES: Final = 2.0
_LATENCIES_AFTER_CUT: Final = 5.0
_FIRST_PART: Final = 0.3
_LONGEST_WINDOW: Final = 5.0

# One window cuts the limit to no less than this.
_DEEPEST_CUT: Final = 0.5

# The baseline goes towards a window's latency by this part of the difference.
_EASING: Final = 0.3

# Latency is the same where it is within these parts of what it was, and the limit is
# another when it is below this part. So many times in a row, and the queue is not ours.
_SAME: Final = (0.85, 1.25)
_LOWER: Final = 0.6
_PROOFS: Final = 2

# A dip lowers the limit to this part, as long as each step brings latency below that
# part of what it was. It is worth its while when latency is this far above the baseline,
# but not where the gradient is so low that cuts will tell more.
_DIP: Final = 0.7
_QUICKER: Final = 0.9
_RAISED: Final = 1.1
_FALLING: Final = 0.6

# Giving up a request says something where it took so many times what is tolerated.
_LONG: Final = 2.0

# Seconds until the first dip, and after each time the baseline was raised.
_FIRST_DIP: Final = 2.0


@dataclass(frozen=True, slots=True)
class AdaptivePolicy:
    """Bounds and pace. Times in seconds.

    Latency may be `tolerance` times what it is without a queue. `probe` is how often a
    lower limit is tried for a moment, to see whether latency without a queue is less
    than believed.
    """

    minimum: int = 4
    maximum: int = 1024
    initial: int = 50
    tolerance: float = 1.5
    window: float = 0.1
    probe: float = 30.0


class AdaptiveLimit:
    """The limit that latency allows, for one cluster.

    It only says a number: another object counts what is in use and refuses. `observe`
    and `at_least` return True when `limit` is another than before.
    """

    __slots__ = (
        "_anchor",
        "_clean_from",
        "_clean_to",
        "_decline",
        "_dip",
        "_given_up",
        "_limit",
        "_next_dip",
        "_peak",
        "_policy",
        "_proofs",
        "_rest",
        "_rng",
        "_samples",
        "_window_ends",
        "baseline",
    )

    def __init__(self, policy: AdaptivePolicy, rng: Random, now: float) -> None:
        """Nothing is known; the limit is the policy's initial one."""
        self._policy = policy
        self._rng = rng
        self._limit = float(policy.initial)
        # Latency without a queue as far as is known, in seconds; 0.0 before the first window.
        self.baseline = 0.0
        # The window: latencies, the most requests that were in flight, its end. A request
        # that began before the limit was last lowered has seen an older queue.
        self._samples: list[float] = []
        self._given_up = 0  # how many of the samples are of requests without an answer
        self._peak = 0
        self._window_ends = now + policy.window
        self._clean_from = -inf
        self._clean_to = inf
        # While it declines: the limit from which it does, the (limit, latency) that the
        # next windows are compared with, and how often less brought nothing.
        self._decline = 0.0
        self._anchor: tuple[float, float] | None = None
        self._proofs = 0
        # While a lower limit is tried: the limit to go back to, and latency before it.
        self._dip: tuple[float, float] | None = None
        self._rest = _FIRST_DIP
        self._next_dip = 0.0
        self._plan_dip(now)
        self.configure(policy)

    @property
    def limit(self) -> int:
        """How many requests may be in flight."""
        return int(self._limit)

    @property
    def maximum(self) -> int:
        """What the limit never passes."""
        return self._policy.maximum

    def configure(self, policy: AdaptivePolicy) -> None:
        """Change the policy in place; what was learned stays, within the new bounds."""
        self._policy = policy
        self._limit = self._bounded(self._limit)

    def observe(self, began: float, seconds: float, in_flight: int, now: float) -> bool:
        """A request that began at `began` was answered well after `seconds`, while
        `in_flight` were under way, itself included."""
        if in_flight > self._peak:
            self._peak = in_flight
        if self._clean_from <= began <= self._clean_to and len(self._samples) < _MOST_SAMPLES:
            self._samples.append(seconds)
        if now < self._window_ends:
            return False
        if len(self._samples) < _SAMPLES:
            self._clean_to = inf  # too little traffic to be choosy
            return False
        before = self.limit
        self._close_window(now)
        return self.limit != before

    def at_least(self, began: float, seconds: float, in_flight: int, now: float) -> bool:
        """A request was given up after `seconds`: its answer would have taken longer.
        Where that is not much longer than usual, it says nothing."""
        if seconds <= _LONG * self._policy.tolerance * self.baseline:
            return False
        if self._clean_from <= began <= self._clean_to:
            self._given_up += 1
        return self.observe(began, seconds, in_flight, now)

    # ------------------------------------------------------------------ each window

    def _close_window(self, now: float) -> None:
        latency = max(median(self._samples), 1e-6)
        peak, limit = self._peak, self._limit
        known = 2 * self._given_up < len(self._samples)
        self._samples = []
        self._given_up = self._peak = 0
        if not known:
            # The service answers hardly anybody in time: whatever latency is, it is too long.
            self._dip = self._anchor = None
            self._limit = self._bounded(limit * _DEEPEST_CUT)
        elif self._dip is not None:
            self._judge_dip(latency, now)
        else:
            self._follow(latency, peak, now)
        cut = self._limit < limit
        # Where the queue was ours, latency falls with the limit.
        latencies = _LATENCIES_AFTER_CUT * self._limit / limit if cut else _LATENCIES
        length = min(max(self._policy.window, latencies * latency), _LONGEST_WINDOW)
        self._window_ends = now + length
        self._clean_to = inf
        if cut:
            self._clean_from, self._clean_to = now, now + _FIRST_PART * length

    def _follow(self, latency: float, peak: int, now: float) -> None:
        """Let the limit follow the gradient of latency."""
        if not self.baseline:
            self.baseline = latency
        elif latency < self.baseline or 2 * peak < self._limit:
            # Upwards only while there is so little to do that no queue can be ours.
            self.baseline += _EASING * (latency - self.baseline)
        gradient = min(max(self._policy.tolerance * self.baseline / latency, _DEEPEST_CUT), 1.0)
        if gradient == 1.0:
            self._anchor = None
        elif self._is_not_our_queue(latency):
            self._believe(latency, now)
            return
        # Less has brought nothing so far: still less will tell whether it ever does.
        in_vain = self._anchor is not None and latency >= _SAME[0] * self._anchor[1]
        useful = gradient > _FALLING and latency > _RAISED * self.baseline and not in_vain
        if useful and now >= self._next_dip and peak >= self.limit:
            self._dip = (self._limit, latency)
            self._limit = self._bounded(self._limit * _DIP)
            return
        # Room to find out whether more is possible, less of it the deeper the cut. A limit
        # that nobody comes near is not raised: it would mean nothing when it is needed.
        room = 0.0 if in_vain else sqrt(self._limit) * (2 * gradient - 1)
        if gradient < 1.0 or 2 * peak >= self._limit:
            self._limit = self._bounded(self._limit * gradient + room)

    def _is_not_our_queue(self, latency: float) -> bool:
        """Whether latency has stayed as it is while the limit was lowered again and again:
        then the service has become slower, and no limit makes it quicker."""
        if self._anchor is None:
            self._decline = self._limit
            self._anchor = (self._limit, latency)
            self._proofs = 0
            return False
        limit, before = self._anchor
        at_bottom = self._limit <= self._policy.minimum
        if self._limit > _LOWER * limit and not at_bottom:
            return False
        same = _SAME[0] * before <= latency <= _SAME[1] * before
        self._proofs = self._proofs + 1 if same else 0
        self._anchor = (self._limit, latency)
        return self._proofs >= _PROOFS

    def _believe(self, latency: float, now: float) -> None:
        """This is what latency is without a queue; the cuts were for nothing."""
        self.baseline = latency
        self._limit = self._bounded(max(self._limit, self._decline))
        self._anchor = None
        # Should it have been a queue after all, a dip will show it soon.
        self._rest = _FIRST_DIP
        self._plan_dip(now)

    # ------------------------------------------------------------------------- dips

    def _judge_dip(self, latency: float, now: float) -> None:
        """What latency was at the lower limit. It lowers the baseline and never raises it:
        other clients of the service may keep its queue full meanwhile."""
        assert self._dip is not None  # asked only in a dip
        back_to, before = self._dip
        self.baseline = min(self.baseline, latency)
        if latency < _QUICKER * before and self._limit > self._policy.minimum:
            self._dip = (back_to, latency)
            self._limit = self._bounded(self._limit * _DIP)
            return
        self._dip = None
        self._limit = self._bounded(back_to)
        self._anchor = None
        self._rest *= 2
        self._plan_dip(now)

    def _plan_dip(self, now: float) -> None:
        """The next dip: between 3/4 and 5/4 of the pause, so that many sidecars do not dip
        at once; pauses double up to the policy's."""
        self._rest = min(self._rest, self._policy.probe)
        self._next_dip = now + self._rest * (0.75 + 0.5 * self._rng.random())

    def _bounded(self, limit: float) -> float:
        return min(max(limit, float(self._policy.minimum)), float(self._policy.maximum))
