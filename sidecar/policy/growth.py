"""What may have taken memory since it was looked at. Imports nothing.

By the clock memory is looked at four times a second at most, and a burst of connections or of large
heads takes all that there is in half of that. So these are counted, and much of it is a reason to look.
"""

from collections.abc import Callable
from typing import Final

# A look for each so many bytes.
STEP: Final = 2 * 1024 * 1024
# What a connection takes, with what it may soon have read.
CONNECTION: Final = 64 * 1024


class Growth:
    """`on_much()` is called for each STEP; it sets `short` while there is no memory for more."""

    __slots__ = ("_left", "on_much", "short")

    def __init__(self) -> None:
        self._left = STEP
        self.short = False
        self.on_much: Callable[[], None] = lambda: None

    def took(self, size: int) -> bool:
        """So many bytes were taken; whether there is no memory for more."""
        self._left -= size
        if self._left <= 0:
            self._left = STEP
            self.on_much()
        return self.short

    def one_more(self) -> None:
        """A client has connected."""
        self.took(CONNECTION)
