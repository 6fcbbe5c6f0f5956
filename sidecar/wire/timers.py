"""Timers for many requests: a wheel of ticks over one `loop.call_at`.

Nearly every deadline is cancelled before it fires, so adding and cancelling must
cost next to nothing: a tick's timers are one dict, found by the token itself.
Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 6,
with a heap of the ticks in use in place of a turning wheel, so that an idle
process sleeps.
"""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

from sidecar.wire.turn import Turn, crashed

TICKS_PER_SECOND = 200  # a timer fires at most 5 ms late
_ALARM_MAY_BE_EARLY = 0.001  # seconds
_COARSE = TICKS_PER_SECOND // 10

# A token is a serial number above the tick: 60 bits together, which is as far as
# Python's integers are cheap. 36 bits of ticks are ten years of monotonic time; the
# serial may come round, for it only tells the timers of one tick apart.
_TICK_MASK = (1 << 36) - 1
_ONE_SERIAL = 1 << 36
_SERIAL_MASK = ((1 << 24) - 1) << 36


class Timed(Protocol):
    """Who waits."""

    def on_timer(self, token: int) -> None:
        """The time that `add` gave this token for is over."""


class Timers:
    """A set of one-shot timers. Not thread-safe; callbacks run inside a turn."""

    __slots__ = (
        "_aimed_at",
        "_aimed_for",
        "_armed",
        "_clock",
        "_handle",
        "_heap",
        "_loop",
        "_serial",
        "_tick",
        "_ticks",
        "_turn",
        "_waiting",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, turn: Turn, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._turn = turn
        self._clock = clock
        self._ticks: dict[int, dict[int, Timed]] = {}
        self._heap: list[int] = []
        self._serial = 0
        self._armed = 0
        self._handle: asyncio.TimerHandle | None = None
        # What the last `add` found: the requests of one read mostly wait equally long.
        self._aimed_at = self._aimed_for = 0.0
        self._tick = 0
        self._waiting: dict[int, Timed] = {}

    def add(self, delay: float, timed: Timed) -> int:
        """Call `timed.on_timer(token)` after `delay` seconds; the token cancels. Within a
        turn they count from its `now`."""
        turn = self._turn
        if not turn.depth:
            self._aim(self._clock(), delay)
        elif delay != self._aimed_for or turn.now != self._aimed_at:
            self._aim(turn.now, delay)
        self._serial = serial = (self._serial + _ONE_SERIAL) & _SERIAL_MASK
        token = serial | self._tick
        self._waiting[token] = timed
        return token

    def _aim(self, now: float, delay: float) -> None:
        """Find the tick that is `delay` seconds after `now`."""
        # The next whole tick: never early, and never the one that is firing now.
        tick = int((now + delay) * TICKS_PER_SECOND) + 1
        if delay >= 1.0:
            # From one second on a tenth is exact enough: fewer ticks are in use.
            tick += -tick % _COARSE
        self._aimed_at = now
        self._aimed_for = delay
        self._tick = tick
        waiting = self._ticks.get(tick)
        self._waiting = self._open_tick(tick) if waiting is None else waiting

    def _open_tick(self, tick: int) -> dict[int, Timed]:
        waiting = self._ticks[tick] = {}
        heappush(self._heap, tick)
        if not self._armed or tick < self._armed:
            self._arm(tick)
        return waiting

    def cancel(self, token: int) -> None:
        """Forget a timer; one that fired or was cancelled before is no error."""
        waiting = self._ticks.get(token & _TICK_MASK)
        if waiting is not None:
            waiting.pop(token, None)

    def __len__(self) -> int:
        """How many timers are waiting."""
        return sum(len(waiting) for waiting in self._ticks.values())

    def _arm(self, tick: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed = tick
        # libuv counts whole milliseconds from one that has begun, and an alarm that comes
        # before its time is set again, for no time at all, until the clock gets there.
        delay = tick / TICKS_PER_SECOND - self._clock() + _ALARM_MAY_BE_EARLY
        self._handle = self._loop.call_later(max(0.0, delay), self._on_alarm)

    def _on_alarm(self) -> None:
        """Fire what is due, then sleep until the next tick in use."""
        self._handle = None
        # A hair more than the clock says: rounding must not leave a tick that is due
        # waiting for no time at all, again and again.
        now = int(self._clock() * TICKS_PER_SECOND + 1e-6)
        self._turn.begin()
        try:
            while self._heap and self._heap[0] <= now:
                self._fire(heappop(self._heap))
        finally:
            self._armed = 0
            if self._heap:
                self._arm(self._heap[0])
            self._turn.end()

    def _fire(self, tick: int) -> None:
        # Popped one by one out of a dict that stays in place: a callback may still
        # cancel a timer of the same tick.
        waiting = self._ticks[tick]
        while waiting:
            token, timed = waiting.popitem()
            try:
                timed.on_timer(token)
            except Exception as error:  # one broken callback must not stop the clock
                crashed(timed, error, self._loop)
        self._ticks.pop(tick, None)  # a callback may have closed us
        if tick == self._tick:
            self._aimed_for = -1.0  # never again

    def close(self) -> None:
        """Stop for good: nothing fires any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._ticks.clear()
        self._aimed_for = -1.0
        self._heap.clear()
        self._armed = 0
