"""HTTP/2 downstream: one client's connection and its streams."""

from collections.abc import Callable
from typing import Any

from sidecar.codec.h2 import (
    FEW_FIELDS,
    MAX_TARGET,
    ConnectionClosed,
    DataReceived,
    ErrorCode,
    GoAwayReceived,
    H2Error,
    PingAcknowledged,
    PingReceived,
    RequestReceived,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
    keep_marks,
    oversized,
    request_head,
    server_connection,
)
from sidecar.model.head import RequestHead
from sidecar.model.headers import Header
from sidecar.model.outcome import Failure
from sidecar.policy.crowd import FEW, LEAST
from sidecar.policy.pace import Pace, Progress
from sidecar.proxy.reply import grpc_reply, http_reply, reason_of, status_of
from sidecar.proxy.route import is_grpc_head
from sidecar.proxy.runtime import Runtime
from sidecar.wire.h2_connection import H2Connection
from sidecar.wire.h2_stream import HIGH_WATER, H2ServerStream
from sidecar.wire.peer import peer_of

Begin = Callable[[Any, RequestHead, bool], None]

# RFC 9113 6.8: after the notice, at least a round trip before the final GOAWAY.
# The PING tells when it was one; a client that does not answer gets this long.
_DRAIN_SECONDS = 1.0
_DRAIN_PING = b"draining"
# A client that has asked nothing yet is told behind its first request, which is looked for so
# often: a pause may be short. One that never asks is told after `_DRAIN_SECONDS`.
_DRAIN_LOOKS = 20
# The idle timeout is looked at so many times: it is at most a quarter late.
_IDLE_CHECKS = 4
_PACE = Pace()
_PREFACE_SIZE = 24


class H2ServerConnection(H2Connection):
    """One accepted connection that speaks HTTP/2 with prior knowledge.

    `begin(stream, head, end)` makes the exchange of a request and sets the
    stream's `receiver`; it is called once per request, inside a turn.
    `on_closed(connection)` is called once at the end.
    """

    side = "downstream"
    many_events = 128

    __slots__ = (
        "_began",
        "_begin",
        "_drain_looks",
        "_drain_token",
        "_finishing",
        "_idle_checks",
        "_idle_token",
        "_latest",
        "_loss",
        "_on_closed",
        "_pace",
        "_peer_left",
        "_progress",
        "peer",
    )

    def __init__(
        self,
        runtime: Runtime,
        begin: Begin,
        on_closed: Callable[[Any], None] | None = None,
        peer: str = "",
        pace: Pace = _PACE,
    ) -> None:
        super().__init__(runtime, server_connection(), peer_opens=True, preface=_PREFACE_SIZE)
        self.peer = peer
        self._pace = pace
        self._progress = Progress()
        self._begin = begin
        self._on_closed = on_closed
        # Streams whose response is complete and whose request is not; True where the
        # end of the response may still wait for the window (see _has_left).
        self._finishing: dict[int, bool] = {}
        self._loss = Failure.CANCELLED  # what the end of the connection comes to
        self._latest = 0  # the last stream that was begun
        self._began = 0  # the same at the last idle check
        self._idle_checks = 0
        self._idle_token = 0
        self._drain_token = 0
        self._drain_looks = 0  # for the first request, while there is one to come
        self._peer_left = False  # whether it said GOAWAY

    @property
    def open_streams(self) -> int:
        """Streams that are not closed."""
        return len(self.streams)

    # From the transport.

    def connection_made(self, transport: Any) -> None:
        """The connection is open."""
        super().connection_made(transport)
        self.peer = self.peer or peer_of(transport)
        self._watch_idle(self._pace.first)

    # From the listener.

    def drain(self) -> None:
        """Stop taking requests without losing one (RFC 9113 6.8): a notice, a
        round trip, the final GOAWAY; the end when the last stream has ended."""
        if self.draining:
            return
        if not self._latest and not self._drain_token:
            # Nothing was asked yet. Told at once the client would only come again, and again;
            # and gRPC fails the call that it has made the connection for.
            self._drain_looks = _DRAIN_LOOKS
            self._drain_token = self.runtime.timers.add(_DRAIN_SECONDS / _DRAIN_LOOKS, self)
            return
        self.draining = True
        try:
            self.h2.send_shutdown_notice()
            self.write_now()  # or libnghttp2 would send the PING first, and its round trip prove nothing
            self.h2.ping(_DRAIN_PING)
        except H2Error:
            return  # it is ending already
        self._drain_token = self.runtime.timers.add(_DRAIN_SECONDS, self)
        if not self.dirty:
            self.turn.mark(self)

    def on_timer(self, token: int) -> None:
        """The client was idle, or did not answer the PING, or does not read."""
        if token == self._drain_token:
            self._drain_looks -= 1
            if self.draining:
                self._final_goaway()
            elif self._latest or not self._drain_looks:
                self.drain()
            else:
                self._drain_token = self.runtime.timers.add(_DRAIN_SECONDS / _DRAIN_LOOKS, self)
        elif token == self._idle_token:
            self._check_idle()
        else:
            super().on_timer(token)

    def _final_goaway(self) -> None:
        if not self._drain_token:
            return
        self.runtime.timers.cancel(self._drain_token)
        self._drain_token = 0
        try:
            self.h2.send_goaway(int(ErrorCode.NO_ERROR))
        except H2Error:
            return
        if not self.dirty:
            self.turn.mark(self)

    def resume_writing(self) -> None:
        """The client has read most of what was written."""
        self._progress.forget()
        super().resume_writing()

    @property
    def idle_since(self) -> float | None:
        """From when on nothing was asked, as far as checks have seen it; None while
        something is, or was a moment ago."""
        if self.streams or self.draining or self._latest != self._began or self._idle_checks < 2:
            return None
        return self.turn.now - (self._idle_checks - 1) * self._pace.idle / _IDLE_CHECKS

    def _watch_idle(self, seconds: float) -> None:
        wait = seconds / _IDLE_CHECKS
        if self.streams and self._pace.write:
            wait = min(wait, self._pace.write / 2)
        self._idle_token = self.runtime.timers.add(wait, self) if seconds else 0

    def _check_idle(self) -> None:
        """Nothing is done per request for the idle timeout: a connection is idle
        when a row of checks saw neither an open stream nor a new one."""
        waiting = self.transport.get_write_buffer_size() if self.write_paused else 0
        pace = self._pace
        if waiting and self._progress.too_slow(self, "write", -waiting, self.turn.now, pace.write, pace.min_rate):
            self.runtime.too_slow("write")
            self._loss = Failure.SLOW_REQUEST
            self.abort()
            return
        if self.streams or self._latest != self._began:
            self._idle_checks = 0
            self._began = self._latest
        else:
            self._idle_checks += 1
        if self.streams and pace.write and not self.write_paused:
            self._cut_stalled()
        # The first check of the row may have come right after the last request.
        if self._idle_checks > _IDLE_CHECKS:
            self._idle_token = 0
            self.drain()
        else:
            self._watch_idle(pace.idle if self._latest else pace.first)

    def _cut_stalled(self) -> None:
        """Reset the streams whose windows take too little of an answer: those that hold up
        what comes after, and complete ones. Others go on."""
        now, pace = self.turn.now, self._pace
        for stream_id, stream in [*self.streams.items()]:
            if not stream.blocked and not stream.local_ended:
                continue
            waiting = self.h2.queued_body_size(stream_id)
            if not waiting:
                continue
            since, before = self._stalled.setdefault(stream_id, (now, waiting))
            elapsed = now - since
            if elapsed < pace.write:
                continue
            if before - waiting >= max(1, int(pace.min_rate * elapsed)):
                self._stalled[stream_id] = (now, waiting)
                continue
            self.runtime.too_slow("write")
            receiver = stream.receiver
            complete = stream.local_ended
            self.drop(stream, int(ErrorCode.CANCEL))
            if receiver is not None and not complete:
                receiver.on_reset(Failure.SLOW_REQUEST)
            self.spend("stalled_answers")
            if self.given_up:
                return

    @property
    def receivers(self) -> list[Any]:
        """Whose exchanges are under way."""
        return [stream.receiver for stream in self.streams.values() if stream.receiver is not None]

    # From streams.

    def half_closed(self, stream: H2ServerStream) -> None:
        """The response is complete before the request is: nobody wants the rest,
        except through a tunnel (RFC 9113 8.5)."""
        if stream.tunnel:
            return
        stream.receiver = None
        if stream.held:
            self.release(stream)
        try:
            self._finishing[stream.id] = self.h2.queued_body_size(stream.id) == 0
        except H2Error:
            pass  # the connection is over

    # Events.

    def _dispatch(self, events: list[Any]) -> None:  # noqa: C901 - one loop over every kind
        """Tell of every event. The frequent ones are inline and in order of their
        frequency: a call each would be a tenth of what an exchange costs here."""
        streams = self.streams
        stream: H2ServerStream | None = None
        events_left = iter(events)
        while True:
            try:
                for event in events_left:
                    kind = type(event)
                    if kind is DataReceived:
                        stream = streams.get(event.stream_id)
                        self._on_data(stream, event.stream_id, event.data, event.end_stream)
                    elif kind is RequestReceived:
                        end = event.end_stream
                        headers = event.headers
                        stream_id = event.stream_id
                        stream = streams[stream_id] = H2ServerStream(self, stream_id, end)
                        head = request_head(headers, end)
                        self._latest = stream_id
                        if head is None or (self._large and oversized(headers)):
                            self._refuse(stream, head)
                        elif head.fields is None:
                            self._begin_unusual(stream, head, headers, end)
                        else:
                            self._begin(stream, head, end)
                    elif kind is StreamClosed:
                        stream = streams.pop(event.stream_id, None)
                        if stream is None:
                            if event.error_code:
                                self._closed_by_error(event)
                        else:
                            if stream.local_ended and stream.remote_ended and not stream.held and not stream.blocked:
                                stream.closed = True
                                stream.receiver = None
                            else:
                                self._stream_closed(stream)
                                if event.error_code:
                                    self._closed_by_error(event)
                    elif kind is TrailersReceived:
                        stream = streams.get(event.stream_id)
                        if stream is not None:
                            headers = event.headers
                            if (len(headers) > FEW_FIELDS or self._large) and oversized(headers):
                                self.break_stream(stream, ErrorCode.PROTOCOL_ERROR)
                            else:
                                self._on_trailers(stream, headers)
                    elif kind is WindowUpdated:
                        stream = None
                        self._updates -= 1
                        if not self._updates:
                            self._many_updates()
                        if self._blocked or self._finishing:
                            self._window_opened(event.stream_id)
                    else:
                        stream = None
                        self._on_connection_event(event)
                return
            except Exception as error:
                self._report(error, stream)  # and go on with the next

    def _on_connection_event(self, event: Any) -> None:
        kind = type(event)
        if kind is StreamReset:
            self._watch.ended(event.stream_id, by_peer=True)
            self.spend("rapid_reset")
        elif kind is PingReceived:
            self.spend("ping")
        elif kind is PingAcknowledged:
            self.spend("ping")  # hardly any was asked for
            if event.opaque_data == _DRAIN_PING:
                self._final_goaway()
        elif kind is SettingsReceived:
            self.spend("settings")
            # A new INITIAL_WINDOW_SIZE moves every stream's window.
            self._window_opened(0)
        elif kind is GoAwayReceived:
            self._peer_left = True
            self.spend("goaway")
        elif kind is ConnectionClosed:
            if event.error_code and not self._peer_left:
                self._gone_wrong(event)
            self._ending = True
            if not self.dirty:
                self.turn.mark(self)

    def _begin_unusual(self, stream: H2ServerStream, head: RequestHead, headers: tuple[Header, ...], end: bool) -> None:
        """A CONNECT, one with a long path, or one with a field twice: so a few bytes that refer to
        one entry of the field table may make a large list."""
        if len(head.path) > MAX_TARGET or oversized(headers):
            self._refuse(stream, head)
            return
        if not head.path:
            stream.tunnel = True
        keep_marks(head, headers)
        self._begin(stream, head, end)

    def _refuse(self, stream: H2ServerStream, head: RequestHead | None) -> None:
        """No request: malformed (RFC 9113 8.1.1), or too large (RFC 6585 5, RFC 9110 15.5.15)."""
        if head is None:
            self.runtime.refused(self, 400, "malformed request")
            self.drop(stream, int(ErrorCode.PROTOCOL_ERROR))
            self.spend("stream_error")
            return
        failure = Failure.TARGET_TOO_LONG if len(head.path) > MAX_TARGET else Failure.HEADERS_TOO_LARGE
        self.runtime.refused(self, status_of(failure), reason_of(failure))
        self.spend("header_list")
        if self._was_dear():
            self._alarm()
        if is_grpc_head(head):
            stream.send_head(grpc_reply(failure, "", 0, []), True)
            return
        answer, body = http_reply(failure, "", 0, [])
        bodyless = head.method == b"HEAD"
        stream.send_head(answer, bodyless)
        if not bodyless:
            stream.send_data(body, True)

    def _stream_closed(self, stream: H2ServerStream) -> None:
        """A stream that ended with something still open here."""
        receiver = stream.receiver
        self._forget(stream)
        if receiver is not None and not (stream.local_ended and stream.remote_ended):
            receiver.on_reset(Failure.CANCELLED)

    def _blocked_changed(self) -> None:
        """Let each of many answers that wait for this client hold less."""
        before = self.high_water == LEAST
        self.high_water = LEAST if len(self._blocked) >= (FEW // 2 if before else FEW) else HIGH_WATER

    def _after_flush(self) -> None:
        if self._finishing and not self.closed:
            self._stop_uploads()

    def _stop_uploads(self) -> None:
        """Tell clients whose response has left entirely not to send the rest of
        their request: RST_STREAM with NO_ERROR (RFC 9113 8.1)."""
        for stream_id, end_is_alone in list(self._finishing.items()):
            stream = self.streams.get(stream_id)
            if stream is None or stream.remote_ended:
                del self._finishing[stream_id]
            elif self._has_left(stream_id, end_is_alone):
                del self._finishing[stream_id]
                self.drop(stream, int(ErrorCode.NO_ERROR))

    def _has_left(self, stream_id: int, end_is_alone: bool) -> bool:
        """Whether a response was written to its last frame. Its end goes with the
        last byte, but one that is said after all bytes have gone is an empty frame
        of its own, and libnghttp2 lets even that wait for the window."""
        connection = self.h2
        try:
            if self.write_paused or connection.queued_body_size(stream_id):
                return False
            return not end_is_alone or (
                connection.remote_window_size > 0 and connection.stream_remote_window_size(stream_id) > 0
            )
        except H2Error:
            return False

    # For the guard.

    @property
    def latest(self) -> int:
        """The last stream that was begun."""
        return self._latest

    @property
    def peer_name(self) -> str:
        """The client's address."""
        return self.peer

    def was_opened(self, stream_id: int, seen: int) -> bool:
        """Whether a stream is not idle any more."""
        return bool(stream_id & 1) and stream_id <= max(seen, self._latest)

    def _is_complete(self, stream: H2ServerStream) -> bool:
        return stream.local_ended and stream.remote_ended

    def _lose_streams(self) -> None:
        self._begin = _begin_nothing  # requests that came behind what ended the connection
        streams = [*self.streams.values()]
        self.streams.clear()
        self._finishing.clear()
        self._reset_all(streams, self._loss)

    def _lost(self) -> None:
        timers = self.runtime.timers
        timers.cancel(self._idle_token)
        timers.cancel(self._drain_token)
        if self._on_closed is not None:
            self._on_closed(self)


def _begin_nothing(stream: Any, head: RequestHead, end: bool) -> None:
    """Nobody is there to be answered."""
