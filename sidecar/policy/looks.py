"""When who is looked at: something that is worth doing for each of many, all the time as long as
there is little of it, and that must not cost more when there is more. Imports nothing of ours."""


class Looks:
    """Hands out looks: for all together one in `apart` seconds. Those of the last `saved` seconds
    that nobody wanted may be taken at once; who gets none waits at least `pause` seconds."""

    __slots__ = ("_apart", "_latest", "_pause", "_saved")

    def __init__(self, pause: float = 1.0, apart: float = 0.02, saved: float = 1.0) -> None:
        self._pause = pause
        self._apart = apart
        self._saved = saved
        self._latest = 0.0  # the time of the last look that was handed out, as if none came early

    def take(self, now: float) -> bool:
        """One more look at the time `now`, if there is one."""
        latest = max(self._latest, now - self._saved) + self._apart
        if latest > now:
            return False
        self._latest = latest
        return True

    def next(self, now: float) -> float:
        """The time of the next look, for who asks at the time `now` and could take none."""
        self._latest = max(self._latest + self._apart, now + self._pause)
        return self._latest
