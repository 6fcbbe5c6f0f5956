"""HTTP/1.1 downstream: one client's connection, its requests one after the other.

The connection is itself the Stream of the message pair that is under way: HTTP/1
has only one at a time. A pipelined request is parsed and waits in a queue until
the answer before it has been written (RFC 9112 9.3.2).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from sidecar.codec import h1
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers, get
from sidecar.model.outcome import Failure
from sidecar.model.stream import Receiver
from sidecar.policy.pace import Pace, Progress
from sidecar.proxy.runtime import Runtime
from sidecar.wire.output import JOIN_BELOW, write_all
from sidecar.wire.paced import Paced
from sidecar.wire.peer import peer_of, reset_connection
from sidecar.wire.turn import BULK

# What a client may send ahead while it waits for answers.
_PIPELINE_EVENTS = 64
# How long the rest of a request is read and dropped after an early answer, so
# that closing does not destroy the answer in the client's buffer (RFC 9112 9.6).
_LINGER_SECONDS = 2.0
# The rest of an answered request that is read and dropped to keep its connection.
_DISCARD_BYTES = 64 * 1024
_PACE = Pace()
_REASONS = {408: "too_slow", 413: "too_large", 414: "too_large", 431: "too_large", 500: "internal"}


class H1ServerConnection(Paced):
    """One accepted connection that speaks HTTP/1.

    `begin(stream, head, end)` makes the exchange of a request and sets
    `receiver`. `on_closed(connection)` is called once at the end.
    """

    protocol = "http1"

    __slots__ = (
        "_awaiting_send",
        "_begin",
        "_body_paused",
        "_bodyless",
        "_chunked",
        "_close_after",
        "_connecting",
        "_deaf",
        "_decoder",
        "_detached",
        "_discarding",
        "_head",
        "_http11",
        "_idle_since",
        "_idle_token",
        "_lingering",
        "_on_closed",
        "_ordinary",
        "_out",
        "_pace",
        "_progress",
        "_queue",
        "_reading_paused",
        "_request_ended",
        "_response_started",
        "_tunnel",
        "_unframed",
        "_upgrade_asked",
        "_waiting",
        "dirty",
        "draining",
        "peer",
        "transport",
        "turn",
    )

    def __init__(
        self,
        runtime: Runtime,
        begin: Callable[[Any, RequestHead, bool], None],
        on_closed: Callable[[Any], None],
        peer: str = "",
        pace: Pace = _PACE,
    ) -> None:
        self.runtime = runtime
        self._pace = pace
        self._progress = Progress()
        self.turn = runtime.turn
        self.peer = peer
        self.receiver: Receiver | None = None
        self.transport: Any = None
        self.dirty = False
        self.draining = False
        self.write_paused = False
        self._begin = begin
        self._on_closed = on_closed
        self._decoder = h1.RequestDecoder(self)
        self._out: list[bytes] = []
        # Heads, data and ends of pipelined requests, as the decoder told them.
        self._queue: deque[tuple[str, Any, bool]] = deque()
        self._busy_reset()
        self._close_after = False
        self._deaf = False  # what the client sends is dropped
        self._lingering = False
        self._discarding = False
        self._tunnel = False
        self._ordinary = False
        self._unframed = False  # only the end of the connection ends the body
        self._connecting = False
        self._head: RequestHead | None = None
        self._detached: Callable[[], asyncio.Protocol] | None = None
        self._reading_paused = False
        self._body_paused = False  # because of the exchange, not of the pipeline
        # One timer for the whole connection: it looks how long nothing was asked.
        self._idle_token = 0
        self._idle_since = 0.0

    def _busy_reset(self) -> None:
        self._waiting = False  # a response is owed
        self._request_ended = True
        self._response_started = False
        self._http11 = True
        self._chunked = False
        self._bodyless = False
        self._upgrade_asked = False
        self._awaiting_send = False

    # From the transport.

    def connection_made(self, transport: Any) -> None:
        """The connection is open."""
        self.transport = transport
        self.peer = self.peer or peer_of(transport)
        if transport.get_extra_info("ssl_object") is not None:
            self._decoder.scheme = b"https"
        self._idle_since = self.turn.now
        self._idle_token = self.runtime.timers.add(self._pace.look, self)

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        turn = self.turn
        turn.begin()
        if len(data) >= BULK:
            turn.bulky = True
        try:
            if not self._deaf:
                self._decoder.feed(data)
        except h1.H1Error as error:
            self._refuse(error)
        except Exception as error:  # a bug of ours ends this connection, not the process
            self.on_crash(error)
        finally:
            turn.end()

    def eof_received(self) -> bool:
        """The client closed its side. Outside a tunnel that is a client that has
        left: like nginx and Envoy we stop working for it."""
        turn = self.turn
        turn.begin()
        keep = False
        try:
            if self._tunnel and self.receiver is not None and not self._request_ended:
                self._request_ended = True
                self.receiver.on_data(b"", True)
                keep = self._waiting  # the other direction may go on
                if not keep:
                    self.receiver = None
        except Exception as error:
            self.on_crash(error)
        finally:
            turn.end()
        return keep

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        turn = self.turn
        turn.begin()
        self._forget_idle()
        self._queue.clear()
        receiver, self.receiver = self.receiver, None
        self.transport = None
        try:
            if receiver is not None:
                receiver.on_reset(Failure.CANCELLED)
            self._on_closed(self)
        finally:
            turn.end()

    # From the decoder.

    def on_message_head(self, head: RequestHead, end: bool) -> None:
        """A request: now its turn, or to be kept until it is."""
        if self._close_after and not self._waiting:
            return  # the connection is on its way out
        if self._waiting or self._queue:
            self._enqueue("head", head, end, (self._decoder.keep_alive, self._decoder.version))
            return
        decoder = self._decoder
        self._start(head, end, decoder.keep_alive, decoder.version)

    def on_message_data(self, data: bytes, end: bool) -> None:
        """Request body, or tunnelled bytes."""
        if self._queue:
            self._enqueue("data", data, end)
        elif self.receiver is not None and not self._request_ended:
            self._request_ended = end
            self.receiver.on_data(data, end)

    def on_message_end(self, trailers: Headers) -> None:
        """The end of a chunked request body."""
        if self._queue:
            self._enqueue("end", trailers, True)
        elif self.receiver is not None and not self._request_ended:
            self._request_ended = True
            if trailers:
                self.receiver.on_trailers(trailers)
            else:
                self.receiver.on_data(b"", True)

    def _enqueue(self, kind: str, item: Any, end: bool, extra: Any = None) -> None:
        self._queue.append((kind, item if extra is None else (item, *extra), end))
        if len(self._queue) >= _PIPELINE_EVENTS or kind == "data" or kind == "error":
            self._pause_reading()

    def _start(self, head: RequestHead, end: bool, keep_alive: bool, version: str) -> None:
        """The request's turn has come."""
        self._waiting = True
        self._head = head
        self._request_ended = end
        self._response_started = False
        self._bodyless = head.method == b"HEAD"
        self._connecting = head.method == b"CONNECT"
        self._upgrade_asked = bool(head.upgrade) or self._connecting
        self._http11 = version == "1.1"
        self._chunked = False
        if not keep_alive or self.draining:
            self._close_after = True
        # A whole request in HTTP/1.1 on a connection that stays; see `send_head`.
        self._ordinary = end and self._http11 and not (self._close_after or self._bodyless or self._connecting)
        self._begin(self, head, end)

    # Stream: what the exchange asks for.

    def send_informational(self, head: ResponseHead) -> None:
        """A 1xx response; HTTP/1.0 clients know none (RFC 9110 15.2)."""
        if self._http11 and not self._response_started and self._waiting:
            self._write(h1.encode_response(head, True, False, b"")[0])

    def send_head(self, head: ResponseHead, end: bool) -> None:
        """The response head; chunked when its length is not known."""
        if not self._waiting:
            return
        self._response_started = True
        connection = b""
        if self._ordinary and head.length is not None and head.status != 101:
            pass  # nothing about this message asks for more than its head says
        elif head.status == 101:
            connection = b"upgrade"
            self._tunnel = True
        elif self._connecting and head.status < 300:
            self._tunnel = True
        else:
            if not end and (head.status == 204 or head.status == 304):
                self._bodyless = True  # HTTP/2 may tell the end of these apart from their head
            if not self._request_ended and not self._upgrade_asked and not self._may_discard():
                self._close_after = True
            if self.draining:
                self._close_after = True
            if not end and head.length is None and not self._http11 and not self._bodyless:
                self._close_after = self._unframed = True
            connection = b"close" if self._close_after else b"" if self._http11 else b"keep-alive"
        if self._bodyless and head.length is None:
            head = ResponseHead(head.status, head.headers, 0)
        chunkable = self._http11 and not self._tunnel and not self._bodyless
        data, self._chunked = h1.encode_response(head, end, chunkable, connection)
        self._out.append(data)
        if not self.dirty:
            self.turn.mark(self)
        if self._tunnel:
            self._decoder.upgraded()
        if end:
            self._response_ended()

    def send_data(self, data: bytes, end: bool) -> bool:
        """Body bytes of the response, or tunnelled ones."""
        if not self._waiting:
            return True
        if self._chunked:
            if data:
                self._out.append(b"%x\r\n" % len(data))
                self._out.append(data)
                self._out.append(b"\r\n0\r\n\r\n" if end else b"\r\n")
            elif end:
                self._out.append(b"0\r\n\r\n")
        elif data and not self._bodyless:
            self._out.append(data)
        if not self.dirty:
            self.turn.mark(self)
        if end:
            self._response_ended()
        return not self.write_paused

    def send_trailers(self, trailers: Headers) -> None:
        """Trailers end the body; without chunks there is no place for them."""
        if not self._waiting:
            return
        if self._chunked:
            self._write(h1.encode_trailers(trailers))
        self._response_ended()

    def _may_discard(self) -> bool:
        """Whether a request that is answered before its end leaves so little that it is
        read and dropped. After `Expect: 100-continue` nobody knows what comes next, the
        body or another request (RFC 9110 10.1.1)."""
        self._discarding = (
            0 <= self._decoder.body_left <= _DISCARD_BYTES
            and self._head is not None
            and get(self._head.headers, b"expect") is None
        )
        return self._discarding

    def pause(self) -> None:
        """Read no more of the request body."""
        self._body_paused = True
        self._pause_reading()

    def resume(self) -> None:
        """Read the request body again."""
        self._body_paused = False
        if not self._queue:
            self._resume_reading()

    def reset(self, failure: Failure) -> None:
        """Break the connection off: the only way to spoil a response that has begun."""
        self.receiver = None
        self._waiting = False
        self._close_after = self._deaf = True
        if self.transport is not None:
            self._break_off()

    def _break_off(self) -> None:
        self._flush_out()
        if self._tunnel or self._unframed:
            # A mere close would look like the body's own end.
            reset_connection(self.transport)
        else:
            # What came before the break still goes out; the framing shows that more is missing.
            self._lingering = True
            self._linger()
            self.transport.close()

    def _linger(self) -> None:
        self._forget_idle()
        self._idle_token = self.runtime.timers.add(_LINGER_SECONDS, self)

    # Between messages.

    def _response_ended(self) -> None:
        self._waiting = False
        if self._tunnel:
            if self._request_ended:
                self.receiver = None
            self._finish_writing()
            return
        self.receiver = None
        self._body_paused = False
        if self._upgrade_asked:
            self._request_ended = True
        elif not self._request_ended and (self._close_after or not self._discarding):
            self._close_after = self._deaf = self._lingering = True
        if self._close_after:
            self._queue.clear()
            self._awaiting_send = True  # close once it is written
            if not self.dirty:
                self.turn.mark(self)
            return
        self._idle_since = self.turn.now
        # The decoder may be in the middle of `feed`: the next request starts when
        # this turn ends, not inside the response of this one.
        if self._queue or self._reading_paused or self._upgrade_asked:
            self._upgrade_asked = False
            self.turn.at_end(self)
        elif self.runtime.pressure and self.runtime.gate is not None:
            self._pause_reading()
            self.runtime.gate.hold(self)

    def let_go(self) -> None:
        """Read again, having been held back."""
        if not self._queue and not self._body_paused:
            self._resume_reading()

    def detach(self, successor: Callable[[], asyncio.Protocol]) -> None:
        """Answer a CONNECT with 200 and leave the connection to another protocol, once
        the bytes that are being read are all told."""
        self._detached = successor
        self.turn.at_end(self)

    def _leave(self, successor: asyncio.Protocol) -> None:
        self._flush_out()  # answers to pipelined requests before it
        transport, self.transport = self.transport, None
        self._waiting = False
        transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        transport.set_protocol(successor)
        successor.connection_made(transport)
        held = self._decoder.take_held()
        self._on_closed(self)
        if held:
            successor.data_received(held)

    def on_turn_end(self) -> None:
        """Start the next pipelined request, if there is one."""
        if self._detached is not None and self.transport is not None:
            self._leave(self._detached())
            return
        if self.transport is None or self._waiting or self._close_after:
            return
        if self._decoder.holding and not self._queue:
            try:
                self._decoder.refused()
            except h1.H1Error as error:
                self._refuse(error)
                return
        self._start_queued()

    def _start_queued(self) -> None:
        while self._queue and not self._waiting and not self._close_after:
            kind, item, end = self._queue.popleft()
            if kind == "error":
                self._refuse(item)
                return
            body: list[tuple[str, Any, bool]] = []
            ended = end
            while self._queue and not ended:
                body.append(self._queue.popleft())
                ended = body[-1][2]
            self._replay(item, end, body)
        if not self._queue and not self._body_paused:
            self._resume_reading()

    def _replay(self, request: tuple[RequestHead, bool, str], end: bool, body: list[tuple[str, Any, bool]]) -> None:
        """A request that was parsed before its turn: told again, in order."""
        later, self._queue = self._queue, deque()
        head, keep_alive, version = request
        self._start(head, end, keep_alive, version)
        for kind, item, ended in body:
            if kind == "data":
                self.on_message_data(item, ended)
            elif kind == "end":
                self.on_message_end(item)
            else:
                self._refuse(item)
        if not self._close_after or self._waiting:
            self._queue = later

    def _refuse(self, error: h1.H1Error) -> None:
        """The client's bytes are wrong: say so if an answer is still possible, and close."""
        self._deaf = True
        if self._close_after and not self._waiting:
            return  # the last answer was given: nobody waits for another word
        if self._queue or (self._waiting and self._request_ended):
            # The requests before it are answered first.
            self._enqueue("error", error, True)
            return
        if self._waiting:
            # The body of the request under way is broken.
            receiver, self.receiver = self.receiver, None
            self._waiting = False
            if receiver is not None:
                receiver.on_reset(Failure.BAD_REQUEST)
            if self._response_started:
                if self.transport is not None:
                    self._break_off()
                return
        self.runtime.refused(self, error.status, str(error))
        self._write(error_response(error.status, str(error)))
        self._close_after = True
        self._lingering = True
        self._awaiting_send = True

    def on_crash(self, error: Exception) -> None:
        """A bug of ours: the request under way gets a 500 if it can, and the connection ends,
        for nobody knows what was read of it."""
        self._deaf = True
        self._close_after = True
        self._ordinary = False
        receiver = self.receiver
        if receiver is not None:
            receiver.on_crash(error)
        else:
            self.runtime.on_crash(error)
            if not self._waiting and self.transport is not None:
                self._write(error_response(500, "the sidecar failed"))
                self._lingering = self._awaiting_send = True
        if self._waiting or self._tunnel:
            self.abort()

    # Output.

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        if not self.dirty:
            self.turn.mark(self)

    def flush(self) -> None:
        """Write what this turn produced."""
        out = self._out
        if out and self.transport is not None:
            self._out = []
            if len(out) == 2 and len(out[1]) < JOIN_BELOW:
                self.transport.write(out[0] + out[1])  # a head and a small body
            else:
                write_all(self.transport, out)
        if self._awaiting_send:
            self._awaiting_send = False
            self._finish_writing()

    def _flush_out(self) -> None:
        out, self._out = self._out, []
        if out and self.transport is not None:
            write_all(self.transport, out)

    def _finish_writing(self) -> None:
        """Close, or first drop what the client is still sending."""
        if self.transport is None:
            return
        self._flush_out()
        if self._tunnel and not self._request_ended:
            self.transport.write_eof()
        elif self._lingering:
            self._reading_paused = False
            self.transport.resume_reading()
            self.transport.write_eof()
            self._linger()
        else:
            self.transport.close()

    def _pause_reading(self) -> None:
        if not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and self.transport is not None:
            self._reading_paused = False
            self.transport.resume_reading()

    # Timers and drain.

    def _forget_idle(self) -> None:
        if self._idle_token:
            self.runtime.timers.cancel(self._idle_token)
            self._idle_token = 0

    def on_timer(self, token: int) -> None:
        """Time to look: no request within the idle timeout, or the linger is over."""
        if token != self._idle_token or self.transport is None:
            return
        self._idle_token = 0
        if self._lingering:
            self.transport.abort()
            return
        again = self._look()
        if again:
            self._idle_token = self.runtime.timers.add(again, self)

    def _look(self) -> float:
        """Whether the client is too slow, or idle for too long; seconds to the next look, 0.0
        for none. Nothing is counted for it as bytes come: what the exchange counts will do."""
        pace, progress, now = self._pace, self._progress, self.turn.now
        receiver: Any = self.receiver
        if self._leaves_unread(pace, progress):
            pass
        elif self._tunnel or self.transport.is_closing():
            progress.forget()
        elif self._waiting:
            came = getattr(receiver, "bytes_in", 0)
            if not self._uploading(came):
                progress.forget()
            elif progress.too_slow(receiver, "body", came, now, pace.body, pace.min_rate):
                return self._refuse_slow("body")
        elif self._queue or self._decoder.awaiting_request:
            progress.forget()
            if not self.open_streams:
                return self._look_how_idle(now)
        elif self._decoder.body_left > 0:
            # The rest of a request that is answered, read to keep the connection.
            if progress.too_slow(self, "rest", 0, now, pace.header, 0):
                self.transport.close()
        elif progress.too_slow(self, "header", 0, now, pace.header, 0):
            return self._refuse_slow("header")
        return pace.look

    def _uploading(self, came: int) -> bool:
        """Whether it is the client who has to go on. One that waits for a 100 has not begun,
        and one that is answered already may take part in a conversation."""
        return not (
            self._request_ended
            or self._response_started
            or self._reading_paused
            or (not came and self._head is not None and get(self._head.headers, b"expect") is not None)
        )

    def _refuse_slow(self, what: str) -> float:
        self.runtime.too_slow(what)
        self._refuse(h1.H1Error(f"the request's {what} came too slowly", 408))
        return self._pace.look

    def _look_how_idle(self, now: float) -> float:
        pace = self._pace
        bound = pace.first if self._head is None else pace.idle
        left = self._idle_since + bound - now
        if bound and left <= 0:
            self.transport.close()
        return min(left, pace.look) if bound and left > 0 else pace.look

    @property
    def idle_since(self) -> float | None:
        """From when on nothing was asked; None while something is."""
        if self.open_streams or not self._decoder.awaiting_request:
            return None
        return self._idle_since

    @property
    def open_streams(self) -> int:
        """1 while a request is under way, else 0."""
        return int(self._waiting or bool(self._queue) or self.receiver is not None)

    @property
    def receivers(self) -> list[Any]:
        """Whose exchanges are under way."""
        return [] if self.receiver is None else [self.receiver]

    def drain(self) -> None:
        """The next answer is the last one, and says so. An idle connection stays open
        until then: a request may be under way to us, and perhaps nobody may repeat it."""
        self.draining = True
        self._ordinary = False

    def close_idle(self) -> None:
        """Close after the answer that is under way; at once when there is none."""
        self.draining = True
        self._ordinary = False
        if self.open_streams:
            self._close_after = True
        elif self.transport is not None and self._decoder.awaiting_request:
            self.transport.close()

    def abort(self) -> None:
        """Give up whatever is under way."""
        if self.transport is not None:
            self.transport.abort()


def error_response(status: int, message: str) -> bytes:
    """A reply to bytes that never became a request."""
    reason = _REASONS.get(status, "bad_request")
    text = message.replace("\\", "\\\\").replace('"', '\\"')
    body = b'{"error":"%b","message":"%b","cluster":"","attempts":0}\n' % (
        reason.encode(),
        text.encode("ascii", "replace"),
    )
    head = ResponseHead(
        status,
        [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-sidecar-error", reason.encode()),
        ],
        len(body),
    )
    return h1.encode_response(head, False, False, b"close")[0] + body
