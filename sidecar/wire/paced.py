"""How a connection that carries one stream learns that its peer reads slowly."""

import asyncio
from typing import Any

from sidecar.model.outcome import Failure
from sidecar.model.stream import Receiver
from sidecar.policy.pace import Pace, Progress
from sidecar.proxy.runtime import Runtime


class Paced(asyncio.Protocol):
    """The transport's word on its write buffer: `write_paused` is what `send_data`
    answers by, and the receiver hears when it is over."""

    __slots__ = ("receiver", "runtime", "write_paused")

    runtime: Runtime
    transport: Any
    receiver: Receiver | None
    write_paused: bool

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

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.write_paused = False
        turn = self.runtime.turn
        turn.begin()
        try:
            if self.receiver is not None:
                self.receiver.on_writable()
        except Exception as error:
            self.on_crash(error)
        finally:
            turn.end()
