"""One turn: everything that happens between two returns to the event loop.

Bytes from one socket usually make several connections write, each of them more
than once. Writing at the end of the turn gives each connection one write for all
that its streams said, which is where most of the time of a proxy would go.

Cost: the flag is on the connection, so that the second and later marks of a turn
are one attribute test in the caller and no call at all:

    if not self.dirty:
        self.turn.mark(self)

(A set would hash on every mark and forget the order in which connections spoke.)
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from sidecar.wire.rest import Rest

# A read of so many bytes is a piece of a large body.
BULK = 16 * 1024
# What is parsed whole after a read was met that took long: see sidecar.wire.h2_guard.
SMALL = 512
# So many requests under way make no batch that is worth waiting for.
FEW = 16


class Flushable(Protocol):
    """A connection that collects its output."""

    dirty: bool

    def flush(self) -> None:
        """Write what was collected. May make others dirty, or itself again."""


class Load(Protocol):
    """What the process has to do: the Runtime."""

    in_flight: int  # requests under way


class TurnEnd(Protocol):
    """Somebody who wants to know that no more will come in this turn."""

    def on_turn_end(self) -> None:
        """Everything that was read has been told."""


class Turn:
    """The turn of one event loop. Not thread-safe.

    `now` is the clock's time in seconds when the turn began: one reading serves
    all that happens in it. `depth` is 0 outside of a turn. `rest` has what is told
    when nobody else has anything to do. A read is `large` from so many bytes on: up to
    `calm_from` fewer than BULK.

    Once it knows the `load`, turns wait with their writing until every socket that
    was ready has been read: then one connection's requests from many clients leave
    in one write, and the processor runs the same code many times over (measured:
    3 % of the CPU of an HTTP/1.1 request). While few requests are under way the
    first of these turns writes at once, so that the other side works while the rest
    is read (measured: a twelfth of the p99 of eight requests that come together).
    A turn that said `bulky` writes at its own end: a large read is written while it
    is in the cache (measured: half of the CPU of 1 MiB bodies).
    """

    __slots__ = (
        "_at_end",
        "_clock",
        "_dirty",
        "_failed",
        "_loop",
        "_scheduled",
        "bulky",
        "calm_from",
        "depth",
        "large",
        "load",
        "now",
        "rest",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic) -> None:
        self._loop = loop
        self._clock = clock
        self.load: Load | None = None
        self.bulky = False
        self.large = BULK
        self.calm_from = 0.0
        self.now = clock()
        self.depth = 0
        self.rest = Rest(self, clock)
        self._scheduled = False
        self._dirty: list[Flushable] = []
        self._failed: list[Flushable] = []  # whose flush raised, in this turn or those behind it
        self._at_end: list[TurnEnd] = []

    def begin(self) -> None:
        """Enter a turn: the first thing that a callback of the event loop does.
        Turns nest: a listener that hands its first bytes to a new protocol is one."""
        if not self.depth:
            self.now = self._clock()
        self.depth += 1

    def end(self) -> None:
        """Leave it, in a `finally`. The outermost one tells that it ends, and writes."""
        if self.depth <= 1:
            while self._at_end:
                self._tell_end()
            if self._dirty:
                if self.bulky or self.load is None:
                    self.bulky = False
                    self._write()
                elif not self._scheduled:
                    self._schedule()
                    if self.load.in_flight <= FEW:
                        self._write()
        self.depth -= 1

    def _write(self) -> None:
        # Still inside a turn: what a flush makes dirty is flushed here too.
        while self._dirty or self._at_end:
            if self._at_end:
                self._tell_end()
            dirty, self._dirty = self._dirty, []
            for connection in dirty:
                # Cleared first: a flush may well say more.
                connection.dirty = False
                try:
                    connection.flush()
                except Exception as error:
                    self._flush_failed(connection, error)

    def _flush_failed(self, connection: Flushable, error: Exception) -> None:
        """What a connection says about its bug is written. Should that fail again, it would
        for ever, and nobody else would have a turn: then it is given up."""
        again = connection in self._failed
        if not self._failed:
            self._loop.call_soon(self._failed.clear)
        self._failed.append(connection)
        crashed(connection, error, self._loop)
        if again:
            if connection.dirty:
                self._dirty.remove(connection)
            connection.dirty = True  # and is not marked any more
            give_up(connection, self._loop)

    def mark(self, connection: Flushable) -> None:
        """Have `connection.flush()` called at the end of this turn. The caller has
        seen that `connection.dirty` is False. Outside a turn (in a Task) one is made."""
        connection.dirty = True
        self._dirty.append(connection)
        if not self.depth:
            self._schedule()

    def mark_first(self, connection: Flushable) -> None:
        """The same, before all others: its flush may tell that something of what they are
        to write must not go out."""
        connection.dirty = True
        self._dirty.insert(0, connection)

    def at_end(self, waiting: TurnEnd) -> None:
        """Have `waiting.on_turn_end()` called once, before anything is written."""
        self._at_end.append(waiting)
        if not self.depth:
            self._schedule()

    def later(self, callback: Callable[[], None]) -> None:
        """Call it when whatever else is ready had its turn. It begins a turn of its own."""
        self._loop.call_soon(callback)

    def _tell_end(self) -> None:
        waiting, self._at_end = self._at_end, []
        for one in waiting:
            try:
                one.on_turn_end()
            except Exception as error:
                crashed(one, error, self._loop)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._scheduled_write)

    def _scheduled_write(self) -> None:
        self._scheduled = False
        self.begin()
        try:
            self._write()
        finally:
            self.depth -= 1


def crashed(one: Any, error: Exception, loop: asyncio.AbstractEventLoop) -> None:
    """A call of `one` raised, which none may: it ends what it is for, if it knows how to.
    Others go on."""
    try:
        on_crash = getattr(one, "on_crash", None)
        if on_crash is not None:
            on_crash(error)
            return
    except Exception as again:
        loop.call_exception_handler({"message": "a bug, in dealing with another", "exception": again})
    loop.call_exception_handler({"message": f"a bug in {type(one).__name__}", "exception": error})


def give_up(connection: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Break a connection off that cannot even say why."""
    try:
        abort = getattr(connection, "abort", None) or connection.transport.abort
        abort()
    except Exception as error:
        loop.call_exception_handler({"message": f"a bug in {type(connection).__name__}", "exception": error})
