"""Which of many equal messages is worth a line of the log. Imports nothing of ours."""

from collections.abc import Callable, Hashable


class Seldom:
    """At most one in `seconds` for each key; keys are from a bounded set."""

    def __init__(self, clock: Callable[[], float], seconds: float = 10.0) -> None:
        self._clock = clock
        self._seconds = seconds
        self._last: dict[Hashable, float] = {}
        self._kept_back: dict[Hashable, int] = {}

    def due(self, key: Hashable) -> int | None:
        """None = not now; else how many were kept back since the last one."""
        now = self._clock()
        last = self._last.get(key)
        if last is not None and now - last < self._seconds:
            self._kept_back[key] = self._kept_back.get(key, 0) + 1
            return None
        self._last[key] = now
        return self._kept_back.pop(key, 0)
