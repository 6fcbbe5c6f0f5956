"""A cluster's retry budget: retries may be a share of the requests, and no more.

After Finagle's RetryBudget (deposit, tryWithdraw): retries against a service in
trouble are bounded by its traffic, so that they cannot multiply it.
"""

from typing import Final

from sidecar.policy.window import Window

# Both sides are counted over this many seconds.
SECONDS: Final = 10.0


class Budget:
    """`ratio` retries per request of the last 10 s, plus `floor` per second.

    A retry stays counted for as long as the requests that paid for it would be.
    """

    __slots__ = ("_free", "_ratio", "_window")

    def __init__(self, ratio: float, floor: float) -> None:
        """A full budget: nothing was requested, nothing retried."""
        # The window's total is requests, its hits are retries.
        self._window = Window(SECONDS)
        self.configure(ratio, floor)

    def configure(self, ratio: float, floor: float) -> None:
        """Change the policy in place: what was counted stays."""
        self._ratio = ratio
        self._free = floor * SECONDS

    def deposit(self, now: float) -> None:
        """One request began: its first try, not its retries."""
        window = self._window
        if now >= window.ends:
            window.rotate(now)
        window.total += 1

    def try_withdraw(self, now: float) -> bool:
        """Take one retry; False leaves the budget as it is."""
        if self.remaining(now) < 1.0:
            return False
        self._window.hits += 1
        return True

    @property
    def ever(self) -> int:
        """How many requests there were since the start."""
        return self._window.total

    def requests(self, now: float) -> int:
        """How many requests there were in the last 10 s."""
        return self._window.counts(now)[0]

    def remaining(self, now: float) -> float:
        """How many retries are allowed at `now`, never below 0."""
        requests, retries = self._window.counts(now)
        return max(0.0, self._ratio * requests + self._free - retries)
