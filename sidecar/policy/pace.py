"""How long a client may take over what it does, and how slowly. Imports nothing."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Pace:
    """A listener's bounds on its clients, in seconds; 0.0 for no bound.

    `first` is from the connection to its first request, `header` from the first byte of a
    request's head to the last, `idle` between two requests. `body` and `write` are the
    times over which a body that is sent to us, or an answer that waits to be read, has to
    come to `min_rate` bytes a second (0: only something has to move).
    """

    first: float = 60.0
    header: float = 10.0
    body: float = 20.0
    idle: float = 300.0
    write: float = 60.0
    min_rate: int = 100

    # How often a connection is looked at: what is too slow ends at most half as late again
    # as it may.
    look: float = field(init=False)

    def __post_init__(self) -> None:
        """Derived once, for it is asked at every look."""
        shortest = min((each for each in (self.header, self.body, self.write) if each), default=self.idle)
        object.__setattr__(self, "look", (shortest or 60.0) / 2)


class Progress:
    """Something that has to come to an end, or a count of bytes that has to grow."""

    __slots__ = ("_bytes", "_kind", "_of", "_since")

    def __init__(self) -> None:
        self._of: object = None
        self._kind = ""
        self._since = 0.0
        self._bytes = 0

    def forget(self) -> None:
        """Nothing has to move now."""
        self._of = None

    def too_slow(self, of: object, kind: str, count: int, now: float, window: float, rate: int) -> bool:
        """Whether `count`, of the same thing as the time before, grew too little over the
        last `window` seconds; 0.0 for no bound."""
        if not window:
            return False
        if of is not self._of or kind != self._kind:
            self._of, self._kind, self._since, self._bytes = of, kind, now, count
            return False
        elapsed = now - self._since
        if elapsed < window:
            return False
        slow = count - self._bytes < max(1, int(rate * elapsed))
        self._since, self._bytes = now, count
        return slow
