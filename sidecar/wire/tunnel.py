"""Raw bytes both ways: what a CONNECT becomes, on either side.

A tunnel's connection is a Stream whose head is a formality: the exchange picks
an endpoint, asks its breaker and counts it like any other, then bytes flow.
"""

from collections.abc import Callable
from typing import Any

from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure
from sidecar.model.stream import Receiver
from sidecar.policy.pace import Pace, Progress
from sidecar.proxy.runtime import Runtime
from sidecar.wire.last_words import last_words, reset_behind
from sidecar.wire.paced import Paced
from sidecar.wire.peer import reset_connection
from sidecar.wire.turn import BULK

_PACE = Pace()


class _Tunnel(Paced):
    """What both sides share: bytes, half-closes, back-pressure."""

    __slots__ = (
        "_broken",
        "_eof",
        "_out",
        "_received_eof",
        "dirty",
        "transport",
    )

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.receiver: Receiver | None = None
        self.transport: Any = None
        self.dirty = False
        self.write_paused = self._reading_paused = False
        self._out: list[bytes] = []
        self._eof = False  # our direction has ended
        self._received_eof = False
        self._broken = False

    def connection_made(self, transport: Any) -> None:
        """The connection is open; it may have been given up before that."""
        self.transport = transport
        if self._broken:
            reset_connection(transport)

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        turn = self.runtime.turn
        turn.begin()
        if len(data) >= BULK:
            turn.bulky = True
        try:
            if self.receiver is not None:
                self.receiver.on_data(data, False)
        except Exception as error:
            self.on_crash(error)
        finally:
            turn.end()

    def eof_received(self) -> bool:
        """The peer's direction has ended; ours may go on."""
        turn = self.runtime.turn
        turn.begin()
        try:
            self._received_eof = True
            if self.receiver is not None:
                self.receiver.on_data(b"", True)
        except Exception as error:
            self.on_crash(error)
        finally:
            turn.end()
        return not self._eof

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        turn = self.runtime.turn
        turn.begin()
        self._leave_crowd()
        try:
            transport, self.transport = self.transport, None
            if error is not None and transport is not None:
                for data in last_words(transport):
                    self.data_received(data)
            receiver, self.receiver = self.receiver, None
            if receiver is not None and not (self._eof and self._received_eof):
                receiver.on_reset(self.lost)
            self._closed()
        finally:
            turn.end()

    lost = Failure.RESET

    def _closed(self) -> None:
        raise NotImplementedError

    def send_data(self, data: bytes, end: bool) -> bool:
        """Bytes to the peer."""
        if self._broken or self._eof:
            return True
        if data:
            self._out.append(data)
        self._eof = end
        if not self.dirty:
            self.runtime.turn.mark(self)
        return not self.write_paused

    def send_trailers(self, trailers: Headers) -> None:
        """A tunnel has none: just the end."""
        self.send_data(b"", True)

    def send_informational(self, head: ResponseHead) -> None:
        """A tunnel has none."""

    def flush(self) -> None:
        """Write what this turn produced."""
        self.dirty = False
        if self.transport is None or self._broken:
            return
        if self._out:
            self.transport.writelines(self._out)
            self._out = []
        if self._eof:
            if self._received_eof:
                self.transport.close()
            else:
                self.transport.write_eof()

    def pause(self) -> None:
        """Read no more."""
        self._pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._resume_reading()

    def reset(self, failure: Failure) -> None:
        """Break it off, behind what was sent."""
        self.receiver = None
        if self.transport is not None and not self._broken:
            if self._out:
                self.transport.writelines(self._out)
            reset_behind(self.transport, self.runtime.timers)
        self._broken = True
        self._out = []


class TunnelClientConnection(_Tunnel):
    """Upstream: one connection for one exchange, never reused."""

    protocol = "tcp"
    followed = unread = False  # see H2Stream: an attempt asks any stream
    trouble = ""

    __slots__ = ("idle_since", "owner", "used")

    def __init__(self, runtime: Runtime, owner: Any) -> None:
        super().__init__(runtime)
        self.owner = owner
        self.used = 0
        self.idle_since = 0.0

    def open(self, receiver: Receiver) -> "TunnelClientConnection":
        """Take the connection."""
        self.receiver = receiver
        self.used = 1
        return self

    def send_head(self, head: RequestHead, end: bool) -> None:
        """Nothing is sent: that there is a connection is the answer."""
        self.runtime.turn.at_end(self)

    def on_turn_end(self) -> None:
        """Tell the answer, outside of the call that asked for it."""
        if self.receiver is not None:
            self.receiver.on_head(ResponseHead(200, [], None), False)

    def _closed(self) -> None:
        self.owner.on_closed(self)

    def close(self) -> None:
        """Close it in good order."""
        if self.transport is not None:
            self.transport.close()


class TunnelServerConnection(_Tunnel):
    """Downstream: a CONNECT that was answered before its endpoint was reached."""

    protocol = "http1"
    lost = Failure.CANCELLED

    __slots__ = ("_on_closed", "_pace", "_progress", "_token", "draining", "peer")

    def __init__(self, runtime: Runtime, on_closed: Callable[[Any], None], peer: str, pace: Pace = _PACE) -> None:
        super().__init__(runtime)
        self.peer = peer
        self._pace = pace
        self._progress = Progress()
        self._token = 0
        self.draining = False
        self._on_closed = on_closed

    def send_head(self, head: ResponseHead, end: bool) -> None:
        """The client was told 200 already: another answer can only be a close."""
        if head.status >= 300:
            self.reset(Failure.RESET)

    def connection_made(self, transport: Any) -> None:
        """The connection is there already."""
        super().connection_made(transport)
        if self.runtime.crowd.is_one:
            self.adapt_to_crowd()
        self._token = self.runtime.timers.add(self._pace.look, self)

    def on_timer(self, token: int) -> None:
        """A look whether the client takes what it is sent."""
        if self.transport is None:
            return
        if not self._leaves_unread(self._pace, self._progress):
            self._progress.forget()
        self._token = self.runtime.timers.add(self._pace.look, self)

    def _closed(self) -> None:
        self.runtime.timers.cancel(self._token)
        self._on_closed(self)

    @property
    def open_streams(self) -> int:
        """A tunnel is always under way."""
        return 1

    def drain(self) -> None:
        """A tunnel ends when its peers end it, or with the process."""
        self.draining = True

    @property
    def receivers(self) -> list[Any]:
        """Whose exchange it is."""
        return [] if self.receiver is None else [self.receiver]

    def abort(self) -> None:
        """Give it up."""
        if self.transport is not None:
            self.transport.abort()
