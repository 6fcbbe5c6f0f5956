"""Where clients wait under pressure, before what they ask next is read.

What is under way is finished first: a kept connection whose answer has ended is read again
only as others end, the one that waits longest first. No request fails by it, and TCP tells
the client to wait. Nobody waits for more than a second: requests that end late, streams
above all, must not shut everybody else out.
"""

import asyncio
from collections import deque
from typing import Any

from sidecar.proxy.runtime import Runtime

_PULSE_SECONDS = 0.01
_LONGEST_SECONDS = 1.0
# So many are let through at a time, and so few requests are always let be under way.
_AT_ONCE = 64
_LEAST = 16


class Gate:
    """One process's. Connections have `let_go()`, by which they are read again."""

    def __init__(self, runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
        self._runtime = runtime
        self._loop = loop
        self._held: deque[tuple[float, Any]] = deque()
        self._most = 0
        self._handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._held)

    def hold(self, connection: Any) -> None:
        """It has stopped reading."""
        if not self._held:
            # Half of what was too much.
            self._most = max(_LEAST, self._runtime.in_flight // 2)
        self._held.append((self._runtime.clock(), connection))
        if self._handle is None:
            self._handle = self._loop.call_later(_PULSE_SECONDS, self.pulse)

    def pulse(self) -> None:
        """Let through whom there is room for, and who has waited long enough."""
        runtime, held = self._runtime, self._held
        room = _AT_ONCE if not runtime.pressure else min(_AT_ONCE, self._most - runtime.in_flight)
        until = runtime.clock() - _LONGEST_SECONDS
        turn = runtime.turn
        turn.begin()
        try:
            while held and (room > 0 or held[0][0] <= until):
                room -= 1
                held.popleft()[1].let_go()
        finally:
            turn.end()
            self._handle = self._loop.call_later(_PULSE_SECONDS, self.pulse) if held else None

    def close(self) -> None:
        """The process stops."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._held.clear()
