"""Time that stands still until a test moves it."""


class FakeClock:
    """A monotonic clock in seconds: call it to read, `advance` to move.

    Starts well above zero, as a real monotonic clock does, so that code which
    takes 0.0 for "never" shows its mistakes.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move on by `seconds` (ValueError when negative) and return the new time."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back")
        self.now += seconds
        return self.now
