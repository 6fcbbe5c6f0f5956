"""A bound on how many of something exist at once: connections, pending, requests."""

from sys import maxsize


class Limit:
    """Counts what is in use and says no beyond the maximum; nothing ever waits here.

    A maximum of None or 0 is no limit: what is in use is counted all the same.
    """

    __slots__ = ("_ceiling", "in_use")

    def __init__(self, maximum: int | None) -> None:
        """Nothing is in use yet."""
        self.in_use = 0
        self.configure(maximum)

    def configure(self, maximum: int | None) -> None:
        """Change the maximum in place. Below what is in use it takes nothing back,
        it lets nothing new in until enough was released."""
        self._ceiling = maximum or maxsize

    @property
    def maximum(self) -> int | None:
        """The maximum, None for no limit."""
        return None if self._ceiling == maxsize else self._ceiling

    def try_acquire(self) -> bool:
        """Take one; False takes nothing. Each True needs one `release`."""
        if self.in_use >= self._ceiling:
            return False
        self.in_use += 1
        return True

    def release(self) -> None:
        """Give one back; RuntimeError if none is out, which would widen the limit unseen."""
        if self.in_use <= 0:
            raise RuntimeError("released more often than acquired")
        self.in_use -= 1
