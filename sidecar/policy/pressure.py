"""Steps of pressure with hysteresis. Imports nothing.

One step up is taken at once, for the lag and the memory that it answers to are past
smoothing already; a step down only after a calm time, and clear below the threshold: an
answer to pressure relieves it, and would otherwise come and go with every look.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

# The steps, by number. Each does what those below it do.
WELL: Final = 0
HOLD: Final = 1  # new requests are read only as others end, idle connections are closed
SHED: Final = 2  # sheddable requests are refused
REFUSE: Final = 3  # so are connections, and what is not critical on those that are there

STEPS: Final = ("well", "hold", "shed", "refuse")


@dataclass(frozen=True, slots=True)
class OverloadPolicy:
    """Thresholds of the three steps: `lag` in seconds, `memory` as shares of the limit.

    `memory_limit` (bytes, None: the control group's), `files_limit` (None: the process's)
    and `max_connections` (None: derived from it) override what is found.
    """

    lag: tuple[float, ...] = (0.1, 0.25, 1.0)
    memory: tuple[float, ...] = (0.8, 0.87, 0.93)
    memory_limit: int | None = None
    files_limit: int | None = None
    max_connections: int | None = None


class Steps:
    """A measured value as a step. `thresholds` are those of steps 1, 2, 3, rising.

    A step is left when the value was below `clear` times its threshold for `calm` seconds.
    """

    __slots__ = ("_calm", "_clear", "_since", "level", "thresholds")

    def __init__(self, thresholds: tuple[float, ...], *, clear: float = 0.8, calm: float = 2.0) -> None:
        self.thresholds = thresholds
        self.level = WELL
        self._clear = clear
        self._calm = calm
        self._since: float | None = None

    def update(self, value: float, now: float) -> int:
        """The step after this measurement."""
        reached = sum(value >= threshold for threshold in self.thresholds)
        if reached >= self.level:
            self.level = reached
            self._since = None
        elif value >= self._clear * self.thresholds[self.level - 1]:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= self._calm:
            self.level -= 1
            self._since = now
        return self.level


class Standing:
    """The least of the last measurements: a queue that stands, and not one that comes and
    goes (Nichols and Jacobson, "Controlling Queue Delay", 2012)."""

    __slots__ = ("_last",)

    def __init__(self, count: int = 4) -> None:
        self._last: deque[float] = deque([0.0] * count, maxlen=count)

    def update(self, value: float) -> float:
        """One more measurement; the least of the last ones."""
        self._last.append(value)
        return min(self._last)


def memory_share(own: int, used: int, limit: int) -> float:
    """How much of what it could have the process uses, 0.0 to about 1.0.

    What others in the same group use is not ours to give back: where a service uses
    nearly all of a limit that it shares with us, we are not what is wrong. Bytes; a limit
    of 0 is none.
    """
    if not limit:
        return 0.0
    room = limit - max(0, used - own)
    return own / room if room > 0 else 1.0
