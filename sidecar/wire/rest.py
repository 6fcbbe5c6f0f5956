"""The rest: what was read, or has ended, and was too much to tell at once.

One event loop serves everybody, so what one connection has too much of waits here and is
told in slices, one connection after the other, while nobody else has anything to do. A
slice is bounded by time: what is cheap to tell goes on in large numbers, what is dear in
small ones. docs/adr/0017 tells why.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sidecar.wire.turn import Turn

# Seconds. Everybody else waits no longer than this for one slice, and what its last step takes.
SLICE = 0.0001
# So many times a slice is put off because somebody else had a turn: then it has its own, or
# whoever is left over would wait for ever on a busy process.
_PASSES = 4


class Unfinished(Protocol):
    """Somebody with something to tell, step by step."""

    # In one slice at most: a clock may stand still, and what a step costs may come later.
    steps: int

    def step(self) -> bool:
        """Tell a little, inside a turn; whether there is more. Must not raise."""


class Rest:
    """All that is left over, in a queue. Not thread-safe."""

    __slots__ = ("_clock", "_passed", "_scheduled", "_seen", "_turn", "_waiting")

    def __init__(self, turn: "Turn", clock: Callable[[], float]) -> None:
        self._turn = turn
        self._clock = clock
        self._waiting: deque[Unfinished] = deque()
        self._scheduled = False
        self._seen: float | None = None  # the turn that was the last when the queue was looked at
        self._passed = 0

    @property
    def waits(self) -> bool:
        """Whether anybody is in the queue."""
        return bool(self._waiting)

    def add(self, one: Unfinished) -> None:
        """Go on with it when others had their turn. It is not in the queue."""
        self._waiting.append(one)
        self._schedule()

    def slice(self, one: Unfinished) -> bool:
        """Tell as much of it as fits in one slice, inside a turn; whether there is more."""
        clock = self._clock
        until = clock() + SLICE
        for _ in range(one.steps):
            if not one.step():
                return False
            if clock() >= until:
                break
        return True

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._turn.later(self._go_on)

    def _go_on(self) -> None:
        self._scheduled = False
        turn = self._turn
        if turn.now != self._seen and self._passed < _PASSES:
            # Somebody had a turn, or what the last slice began is only now about to be done.
            self._seen = turn.now
            self._passed += 1
            self._schedule()
            return
        self._passed = 0
        self._seen = None
        one = self._waiting.popleft()
        turn.begin()
        try:
            if self.slice(one):
                self._waiting.append(one)
        finally:
            turn.bulky = True  # what it wrote must not be taken for somebody else's turn
            turn.end()
            if self._waiting:
                self._schedule()
