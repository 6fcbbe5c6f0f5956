"""How a connection that carries one stream keeps to the pace of whoever is slower."""

import asyncio
from typing import Any

from sidecar.model.outcome import Failure
from sidecar.model.stream import Receiver
from sidecar.policy.crowd import LEAST
from sidecar.policy.pace import Pace, Progress
from sidecar.proxy.runtime import Runtime
from sidecar.wire.portion import adapt_reading


class Paced(asyncio.Protocol):
    """The transport's word on its write buffer: `write_paused` is what `send_data`
    answers by, and the receiver hears when it is over. And ours on its reading: what was
    read waits, among others that do."""

    __slots__ = ("_reading_paused", "receiver", "runtime", "write_paused")

    runtime: Runtime
    transport: Any
    receiver: Receiver | None
    write_paused: bool
    _reading_paused: bool

    def on_crash(self, error: Exception) -> None:
        """A bug of ours met this connection: what it carries ends, and so does it."""
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.on_crash(error)
        else:
            self.runtime.on_crash(error)
        if self.transport is not None:
            self.transport.abort()

    def _leaves_unread(self, pace: Pace, progress: Progress) -> bool:
        """Whether bytes wait for the client to take them. One that does so too slowly is cut
        off; an event stream that is silent leaves none."""
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            return False
        receiver: Any = self.receiver
        taken = getattr(receiver, "bytes_out", 0) - waiting
        now = self.runtime.turn.now
        if progress.too_slow(receiver or self, "write", taken, now, pace.write, pace.min_rate):
            self.runtime.too_slow("write")
            if receiver is not None:
                self.receiver = None
                receiver.on_reset(Failure.SLOW_REQUEST)
            self.transport.abort()
        return True

    def _pause_reading(self) -> None:
        if not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()
            self.runtime.crowd.join()

    def _resume_reading(self) -> None:
        if self._reading_paused and self.transport is not None:
            self._wait_no_more()
            self.transport.resume_reading()

    def _wait_no_more(self) -> None:
        """What was read is taken."""
        if self._reading_paused:
            self._reading_paused = False
            self.runtime.crowd.leave()

    def _leave_crowd(self) -> None:
        """The connection is gone, or somebody else's, and what waited with it."""
        self._wait_no_more()
        self._may_write()

    def _may_write(self) -> None:
        if self.write_paused:  # not so where it was somebody before us who heard of the pause
            self.write_paused = False
            self.runtime.crowd.leave()

    def adapt_to_crowd(self) -> None:
        """Read in portions and let little wait for the peer while there is a crowd, else as ever."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.set_write_buffer_limits(LEAST if self.runtime.crowd.is_one else None)
            adapt_reading(self.transport, self, self.runtime, self._reading_paused)

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self.write_paused = True
        self.runtime.crowd.join()
        if self.receiver is not None:
            self.receiver.on_full()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._may_write()
        turn = self.runtime.turn
        turn.begin()
        try:
            if self.receiver is not None:
                self.receiver.on_writable()
        except Exception as error:
            self.on_crash(error)
        finally:
            turn.end()
