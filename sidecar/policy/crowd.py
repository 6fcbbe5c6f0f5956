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

    `is_one` from more than FEW until half of them are left. `portion` is what one read may bring, in
    bytes. It falls with the square of their number, so that all that came one after the other hold
    no more than twice what the first few do, and LEAST each. `on_change` holds who is called when it
    begins and when it ends: whatever is read has to be read in portions, or as ever.
    """

    __slots__ = ("is_one", "on_change", "portion", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self.is_one = False
        self.portion = WHOLE
        self.on_change: list[Callable[[], None]] = []

    def join(self) -> None:
        """One more waits."""
        self.waiting += 1
        if self.waiting > FEW:
            self._share()
            if not self.is_one:
                self._change(True)

    def leave(self) -> None:
        """One waits no more."""
        self.waiting -= 1
        if self.is_one:
            self._share()
            if self.waiting <= FEW // 2:
                self._change(False)

    def _share(self) -> None:
        number = max(self.waiting, FEW)
        self.portion = max(LEAST, WHOLE * FEW * FEW // (number * number))

    def _change(self, is_one: bool) -> None:
        self.is_one = is_one
        for changed in self.on_change:
            changed()
