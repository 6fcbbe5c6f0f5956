"""The end of the process, in phases: pause, finish, farewell (phases.py, docs/operations.md).

Nothing of it costs a request anything before: listeners, connections and the snapshot are
changed once, when a phase begins.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from sidecar.lifecycle.phases import FAREWELL, FINISH, PAUSE, SERVING, STOPPED, Phases
from sidecar.proxy.runtime import Runtime
from sidecar.wire.listener import Listener

_LOOK_SECONDS: Final = 0.05
# Listeners that only this machine reaches have no load balancer before them: when nobody
# was there for so long, nobody is waited for.
_SILENCE: Final = 1.0
# How long the last words may take when there is a hurry.
_HURRIED: Final = 0.25


class Shutdown:
    """Ends what a process serves. `listeners()` gives all that have connections; `on_event
    (fields)` hears of each phase; while `waits_for()` is true the pause goes on, as long as
    there is time."""

    def __init__(
        self,
        runtime: Runtime,
        listeners: Callable[[], Iterable[Listener]],
        on_event: Callable[[dict[str, Any]], None],
        waits_for: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._listeners = listeners
        self._on_event = on_event
        self._waits_for = waits_for
        self._clock = clock
        self.phase = SERVING
        self._phase_ends = self._end = 0.0
        self._closed = False  # the listening sockets are another process's
        self._hurry = 0
        self._wake = asyncio.Event()

    @property
    def message(self) -> str:
        """The phase, and what is left of it, for people."""
        if self.phase in (SERVING, STOPPED):
            return self.phase
        now = self._clock()
        left, all_left = max(0.0, self._phase_ends - now), max(0.0, self._end - now)
        return f"{self.phase}, {left:.1f}s left; the end in {all_left:.1f}s at the most"

    def hurry(self) -> None:
        """Say goodbye now; when that was said before, cut everything."""
        self._hurry += 1
        self._wake.set()

    def hand_over(self) -> None:
        """The listening sockets are another process's from now on: what is new goes there."""
        self._closed = True
        for listener in self._listeners():
            listener.close_socket()
        self._wake.set()

    async def run(self, phases: Phases) -> None:
        """Until nothing is left, or time is up."""
        self._end = self._clock() + phases.pause + phases.finish + phases.farewell
        self._enter(PAUSE, phases.pause)
        await self._until(self._pause_is_over(phases), 0)
        # What comes from here on is answered `draining`.
        self._runtime.snapshot = self._runtime.snapshot.closed()
        for listener in self._listeners():
            listener.last_call()
        self.in_turn(self._listeners(), Listener.close_idle)
        self._enter(FINISH, self._end - phases.farewell - self._clock())
        await self._until(lambda: not self._connected() or self._clock() >= self._phase_ends, 0)
        if self._connected():
            seconds = min(_HURRIED, phases.farewell) if self._hurry else phases.farewell
            self._end = min(self._end, self._clock() + seconds)
            self._enter(FAREWELL, seconds)
            self.in_turn(self._listeners(), Listener.say_goodbye)
            hurried = self._hurry
            await self._until(lambda: not self._connected() or self._clock() >= self._phase_ends, hurried)
        self.phase = STOPPED

    def in_turn(self, listeners: Iterable[Listener], call: Callable[[Listener], None]) -> None:
        """Ask something of these listeners, in one turn."""
        turn = self._runtime.turn
        turn.begin()
        try:
            for listener in listeners:
                call(listener)
        finally:
            turn.end()

    def _enter(self, phase: str, seconds: float) -> None:
        self.phase = phase
        self._phase_ends = self._clock() + max(0.0, seconds)
        self._on_event({"phase": phase, "seconds": round(max(0.0, seconds), 3), "in_flight": self._runtime.in_flight})

    def _pause_is_over(self, phases: Phases) -> Callable[[], bool]:
        seen = self._clock()
        local = all(listener.address.is_local for listener in self._listeners())
        last = self._end - phases.farewell  # however long it is that we wait for

        def over() -> bool:
            nonlocal seen
            now = self._clock()
            quiet = not self._connected() and not self._runtime.in_flight
            if not quiet:
                seen = now
            if self._closed and quiet:
                return True
            if self._waits_for():
                return now >= last
            return now >= self._phase_ends or (local and now - seen >= _SILENCE)

        return over

    def _connected(self) -> bool:
        return any(listener.connections for listener in self._listeners())

    async def _until(self, true: Callable[[], bool], hurried: int) -> None:
        while self._hurry <= hurried and not true():
            self._wake.clear()
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
