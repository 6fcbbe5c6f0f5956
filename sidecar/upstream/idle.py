"""How long an endpoint keeps an idle connection, learnt from the closes that were seen.

A request sent while the server closes is lost without a trace of whether it ran,
so a connection that is about to reach that age is not used again.
"""

# Distance kept from the age at which the server was seen to close.
_MARGIN_RATIO = 0.1
_MARGIN_SECONDS = 0.05


class IdleTimeout:
    """The peer's idle timeout, in seconds; unknown until a close was seen."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen = 0.0

    def closed_at(self, age: float, now: float) -> None:
        """The peer closed a connection that had been idle for `age` seconds."""
        if age < _MARGIN_SECONDS:
            return  # no server waits so short: a restart, which says nothing of later
        if not self.seen or age < self.seen:
            self.seen = age

    def allows(self, age: float, hint: int) -> bool:
        """Whether a connection of this idle age may carry another request.

        `hint` is what the server announced (`Keep-Alive: timeout`), or 0.
        """
        if hint and age > _safe(float(hint)):
            return False
        seen = self.seen
        return not seen or age <= _safe(seen)

    def outlived(self, age: float) -> None:
        """A connection of this idle age is still open.

        Beyond the known limit it disproves that: a restart closes connections of
        every age, and must not end reuse for good.
        """
        seen = self.seen
        if seen and age > seen * (1 + _MARGIN_RATIO) + _MARGIN_SECONDS:
            self.seen = age


def _safe(limit: float) -> float:
    """The age until which a connection is used, for a limit: at least half of it."""
    return max(limit / 2, limit - max(limit * _MARGIN_RATIO, _MARGIN_SECONDS))
