"""How much is read at a time, when much of what was read waits. Imports nothing of ours.

A body that nobody takes holds what came in one read: in 256 KiB, as uvloop reads, a thousand
of them hold 250 MiB. So the more of them wait, the less is read of the next one.
"""

from collections.abc import Callable
from typing import Final

# So much of a body is read at a time, and held while it waits, as long as few do: in bytes.
WHOLE: Final = 256 * 1024
# The least that is read.
LEAST: Final = 8 * 1024
# From more than so many on they are a crowd.
FEW: Final = 32


class Crowd:
    """The connections of a process on which something waits: for the peer to take it, or for others
    to take what the peer has sent. A body that crosses two of them counts for both.

    `portion` is what one read may bring, in bytes. It falls with the square of their number, so
    that all that came one after the other hold no more than twice what the first few do, and
    LEAST each. `on_begin` holds who is called when few become many: whatever is read must be read
    in portions from now on.
    """

    __slots__ = ("on_begin", "portion", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.portion = WHOLE
        self.on_begin: list[Callable[[], None]] = []

    @property
    def is_one(self) -> bool:
        """Whether so many wait that less is read."""
        return self.waiting > FEW

    def join(self) -> None:
        """One more waits."""
        self.waiting += 1
        if self.waiting > FEW:
            self._share()
            if self.waiting == FEW + 1:
                for begin in self.on_begin:
                    begin()

    def leave(self) -> None:
        """One waits no more."""
        self.waiting -= 1
        if self.waiting >= FEW:
            self._share()

    def _share(self) -> None:
        self.portion = max(LEAST, WHOLE * FEW * FEW // (self.waiting * self.waiting))
