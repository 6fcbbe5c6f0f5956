"""When who is looked at again: something that is worth doing now and then, for each of many,
and that must not cost more when there are more of them. Imports nothing of ours."""


class Looks:
    """Hands out times: for one and the same at least `pause` seconds from now, and for all
    together at most one in `apart` seconds."""

    __slots__ = ("_apart", "_latest", "_pause")

    def __init__(self, pause: float = 1.0, apart: float = 0.02) -> None:
        self._pause = pause
        self._apart = apart
        self._latest = 0.0

    def next(self, now: float) -> float:
        """The time of the next look, for who asks at the time `now`."""
        self._latest = max(self._latest + self._apart, now + self._pause)
        return self._latest
