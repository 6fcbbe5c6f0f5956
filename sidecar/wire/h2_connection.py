"""One HTTP/2 connection: bytes in, events out, one write per turn.

What both roles share. The hot path is `data_received` -> `_dispatch` (in the
role) -> the exchange -> `turn.mark` -> `flush`. An exchange costs about ten calls
into libnghttp2; everything else here is arranged so that it costs nothing unless
it is needed: blocked streams, half-closed ones and timers have their own lists.

Flow control: automatic window updates are off. Every DATA byte is acknowledged
when the receiver took it, or when it resumes, or when its stream is gone: an
unacknowledged byte would be lost to the connection's window for ever.
"""

from collections.abc import Iterable
from typing import Any

from sidecar.codec.h2 import CONNECTION_WINDOW, Connection, ErrorCode, H2Error
from sidecar.model.headers import Header
from sidecar.model.outcome import Failure
from sidecar.proxy.runtime import Runtime
from sidecar.wire.gone import Gone
from sidecar.wire.h2_guard import Guarded
from sidecar.wire.h2_stream import HIGH_WATER, H2Stream
from sidecar.wire.turn import BULK

# How long the last bytes (a GOAWAY) may take to leave before the socket is cut.
_LINGER_SECONDS = 2.0
# uvloop writes at the end of a loop iteration: with its default of 64 KiB every
# larger burst would pause and resume all streams.
_WRITE_HIGH = 512 * 1024
_WRITE_LOW = 64 * 1024


class H2Connection(Guarded):
    """The shared half of a server's and a client's connection.

    `closed` is set once the transport is gone, `draining` once no new stream may
    begin. `dirty` belongs to the turn.
    """

    protocol = "http2"

    __slots__ = (
        "_blocked",
        "_check",
        "_ending",
        "_given",
        "_linger_token",
        "_stalled",
        "closed",
        "dirty",
        "draining",
        "h2",
        "high_water",
        "newest",
        "runtime",
        "streams",
        "transport",
        "turn",
        "write_paused",
    )

    def __init__(self, runtime: Runtime, connection: Connection, peer_opens: bool, preface: int) -> None:
        """`peer_opens` says that the peer is a client, whose bytes begin with a `preface`."""
        super().__init__(runtime, peer_opens, preface)
        self.runtime = runtime
        self.turn = runtime.turn
        self.h2 = connection
        self.transport: Any = None
        self.streams: dict[int, Any] = {}
        self.dirty = False
        self.draining = False
        self.closed = False
        self.write_paused = False
        self.high_water = HIGH_WATER  # what a stream may have waiting before it is to hold
        self._ending = False  # libnghttp2 is done: close once its output is written
        self._linger_token = 0
        # The highest number of a stream of ours, and that up to which the peer may know of them.
        self.newest = 0
        self._given = 0
        # Streams that were asked to hold, and those of them that may have moved.
        self._blocked: dict[int, H2Stream] = {}
        self._check: dict[int, H2Stream] = {}
        # Streams whose bytes waited when that was last looked at: since when, how many.
        self._stalled: dict[int, tuple[float, int]] = {}

    # From the transport.

    def connection_made(self, transport: Any) -> None:
        """The connection is open: our SETTINGS go out."""
        self.transport = transport
        transport.set_write_buffer_limits(_WRITE_HIGH, _WRITE_LOW)
        if not self.dirty:
            self.turn.mark(self)

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        turn = self.turn
        turn.begin()
        if len(data) >= turn.large:
            if turn.large < BULK:
                self._be_careful()
            turn.bulky = True
            self._large += 2
            if self._too_much(len(data)):
                turn.end()
                return
            if self._dense:
                self.careful_from = 0.0
        try:
            if turn.now >= self.careful_from:
                if self._in_slices(data):
                    return
                data = self._looked_at(data)
            connection = self.h2
            connection.receive_data(data)
            events = connection.events()
            if len(events) > self.many_events:
                events = self._in_parts(events)
            self._dispatch(events)
            self._large = not events and self._quiet(len(data))
            if not self.dirty and connection.want_write:
                # The library tells of a broken body when it has written RST_STREAM.
                turn.mark_first(self)
        except H2Error as error:
            self._fail(error)
        except Exception as error:
            self.on_crash(error)
        finally:
            turn.end()

    def pause_writing(self) -> None:
        """The socket's buffer is full: what streams send waits in libnghttp2."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The socket's buffer has drained."""
        self.turn.begin()
        self.write_paused = False
        self._check.update(self._blocked)
        if not self.dirty:
            self.turn.mark(self)
        self.turn.end()

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is gone."""
        self.turn.begin()
        try:
            self.closed = True
            self.draining = True
            self.transport = None
            if self._linger_token:
                self.runtime.timers.cancel(self._linger_token)
            self._lose_streams()
            self._lost()
        finally:
            self._watch.close()
            self.turn.end()

    # From the turn.

    def flush(self) -> None:
        """Write what was queued, tell what came of it."""
        if self.closed:
            self._after_flush()
            return
        try:
            self._write()
            # Writing an end closes streams.
            events = self.h2.events()
            if events:
                if self._backlog:
                    self._backlog += events  # it comes after what is not told yet
                else:
                    self._dispatch(events)
        except H2Error as error:
            self._fail(error)
            return
        if self._check:
            self._tell_writable()
        self._after_flush()
        if self._ending:
            self._end()

    def _write(self) -> None:
        if self.write_paused or self.transport is None or self.given_up:
            return
        data = self.h2.data_to_send()
        if data:
            self.transport.write(data)
        self._given = self.newest

    # From streams.

    def write_now(self) -> None:
        """Write in the middle of a turn; events wait for its end."""
        try:
            self._write()
        except H2Error:
            pass  # the flush will find out

    def block(self, stream: H2Stream) -> None:
        """Tell this stream when it may go on."""
        if not stream.blocked:
            stream.blocked = True
            self._blocked[stream.id] = stream
            self.runtime.crowd.join()
            self._blocked_changed()
        # What is queued now may go out with the next flush.
        self._check[stream.id] = stream

    def release(self, stream: H2Stream) -> None:
        """Acknowledge what a paused stream was told."""
        held, stream.held = stream.held, 0
        self.acknowledge(stream.id, held)
        if not self.dirty:
            self.turn.mark(self)

    def acknowledge(self, stream_id: int, size: int) -> None:
        """Give the peer credit for DATA. Works for closed streams as well: their
        bytes are part of the connection's window."""
        try:
            self.h2.acknowledge_received_data(size, stream_id)
        except H2Error:
            pass  # the connection is over

    def half_closed(self, stream: Any) -> None:
        """Our direction of a stream ended before the peer's."""

    def drop(self, stream: Any, code: int) -> None:
        """RST_STREAM, and forget the stream."""
        self.streams.pop(stream.id, None)
        self._watch.ended(stream.id, by_peer=False)
        cut = not stream.remote_ended
        self._forget(stream)
        try:
            self.h2.reset_stream(stream.id, code)
            if cut:
                self._check_leak()
        except H2Error:
            pass  # gone already
        if not self.dirty:
            self.turn.mark(self)

    # For the roles.

    def drain(self) -> None:
        """Let no new stream begin, end when the last one has."""
        raise NotImplementedError

    def abort(self) -> None:
        """Cut the connection; `connection_lost` follows from the event loop."""
        if self.transport is not None:
            self.transport.abort()

    def on_timer(self, token: int) -> None:
        """The last bytes had their time."""
        if token == self._linger_token:
            self.abort()

    def _dispatch(self, events: list[Any]) -> None:
        """Tell of every event of the library."""
        raise NotImplementedError

    def _on_data(self, stream: H2Stream | None, stream_id: int, data: bytes, end: bool) -> None:
        """Tell of DATA, then give credit for it, or hold that back while paused."""
        if stream is None:
            if data:
                self.acknowledge(stream_id, len(data))
            return
        if end:
            stream.remote_ended = True
        if stream.receiver is not None:
            stream.receiver.on_data(data, end)
        if data:
            if stream.paused and not stream.closed:
                stream.held += len(data)
            else:
                try:
                    self.h2.acknowledge_received_data(len(data), stream_id)
                except H2Error:
                    pass  # the last bytes of a connection that has ended behind them
        elif not end:
            self.spend("useless_frames")

    def _on_trailers(self, stream: H2Stream, headers: tuple[Header, ...]) -> None:
        """Tell of trailers; libnghttp2 sees to it that they end the message."""
        stream.remote_ended = True
        if stream.receiver is not None:
            stream.receiver.on_trailers([*headers])

    def _after_flush(self) -> None:
        raise NotImplementedError

    def _blocked_changed(self) -> None:
        """One stream more has to hold, or one less."""

    def _lose_streams(self) -> None:
        """The connection is over: tell every stream that has not ended."""
        raise NotImplementedError

    def _lost(self) -> None:
        """The transport is gone and all streams know."""
        raise NotImplementedError

    def _forget(self, stream: H2Stream) -> None:
        """Let go of everything a stream still has here."""
        stream.closed = True
        stream.receiver = None
        if stream.blocked:
            self._unblock(stream)
        elif self._stalled:
            self._stalled.pop(stream.id, None)
        if stream.held:
            self.release(stream)

    def _unblock(self, stream: H2Stream) -> None:
        stream.blocked = False
        del self._blocked[stream.id]
        self.runtime.crowd.leave()
        self._blocked_changed()
        self._stalled.pop(stream.id, None)

    def _window_opened(self, stream_id: int) -> None:
        """A WINDOW_UPDATE: blocked streams may have moved. 0 is the connection."""
        if stream_id == 0:
            self._check.update(self._blocked)
        elif stream_id in self._blocked:
            self._check[stream_id] = self._blocked[stream_id]
        if self._check and not self.dirty:
            self.turn.mark(self)

    def _tell_writable(self) -> None:
        if self.write_paused:
            return  # all of them are looked at again when it resumes
        check, self._check = self._check, {}
        for stream_id, stream in check.items():
            if not stream.blocked:
                continue
            stream.queued = self.h2.queued_body_size(stream_id)
            if stream.queued > self.high_water // 3:  # well below, so that it goes on for a while
                continue
            self._unblock(stream)
            if stream.receiver is not None and not stream.local_ended:
                try:
                    stream.receiver.on_writable()
                except Exception as error:  # the streams after it hear of theirs
                    self._report(error, stream)

    def _check_leak(self) -> None:
        """End the connection in peace before its receive window leaks away.

        When a stream is reset in the middle of a DATA frame that has arrived in
        part, the library (0.3) neither tells of that part nor lets us acknowledge
        it: up to one frame of the connection's window is gone. Credit that is not
        yet given back is less than half of the window, so that three quarters
        missing is a leak.
        """
        held = sum(stream.held for stream in self.streams.values())
        if self.h2.local_window_size + held < CONNECTION_WINDOW // 4:
            self.drain()

    def _end(self) -> None:
        """All was said: close the transport, and soon cut it."""
        if self.transport is None or self._linger_token:
            return
        self.draining = True
        self._lose_streams()
        if self.given_up and self.transport.can_write_eof():
            # A socket that is closed with bytes unread is reset: the peer might not read why.
            try:
                self.transport.write_eof()
            except OSError:
                self.transport.close()  # it has gone
        else:
            self.transport.close()
        self._linger_token = self.runtime.timers.add(_LINGER_SECONDS, self)

    def _report(self, error: Exception, stream: Any) -> None:
        """A receiver raised, which none may: end its stream, spare the others."""
        receiver = stream.receiver if stream is not None else None
        try:
            if receiver is not None:
                receiver.on_crash(error)  # says it in its protocol's form
            else:
                self.runtime.on_crash(error)
        except Exception as again:
            self.runtime.on_crash(again)
        if stream is not None and not stream.closed and not stream.local_ended:
            self.drop(stream, int(ErrorCode.INTERNAL_ERROR))

    def on_crash(self, error: Exception) -> None:
        """A bug of ours met the connection as a whole: what it carries is told."""
        self.runtime.on_crash(error)
        self.abort()

    def _reset_all(self, streams: Iterable[Any], failure: Failure) -> None:
        """Tell each of them that it is gone."""
        receivers = []
        for stream in streams:
            if stream.closed:
                continue
            if stream.receiver is not None:
                receivers.append(stream.receiver)
            self._forget(stream)
        gone = Gone(receivers, failure, self.runtime.on_crash)
        self.turn.begin()
        try:
            if self.turn.rest.slice(gone):
                self.turn.rest.add(gone)
        finally:
            self.turn.end()
