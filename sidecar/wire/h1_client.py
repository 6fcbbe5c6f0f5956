"""HTTP/1.1 upstream: one connection to an endpoint, one exchange at a time.

The connection is itself the Stream of the request that it carries. It goes back
to its pool only when both directions ended cleanly and nothing was left over.
"""

from typing import Any, Protocol

from sidecar.codec import h1
from sidecar.codec.fields import MISSPELLED
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure
from sidecar.model.stream import Receiver
from sidecar.policy.calm import MAX_INTERIM
from sidecar.proxy.runtime import Runtime
from sidecar.wire.last_words import last_words, reset_behind
from sidecar.wire.output import write_all
from sidecar.wire.paced import Paced
from sidecar.wire.tls_layer import RefusedError
from sidecar.wire.turn import BULK

# One after the other: two searches in a head of bytes are the least that can be done.
_LENGTH, _ENCODING = [b"\r\n%b:" % name for name in sorted(MISSPELLED)]


# What a server says first that was asked in another protocol than its own: an alert of TLS, and the
# SETTINGS of HTTP/2.
_TLS_ALERT = b"\x15\x03"
_SETTINGS = b"\x04\x00\x00\x00\x00\x00"


class Owner(Protocol):
    """The pool that a connection belongs to."""

    def on_idle(self, connection: Any) -> None:
        """It may carry another request."""

    def on_closed(self, connection: Any, idle: bool) -> None:
        """It is gone; `idle` says that the peer closed it while nothing was under way."""


class H1ClientConnection(Paced):
    """One connection to an endpoint.

    `used` counts requests; `idle_since` is a monotonic time, meaningful while the
    connection lies in its pool.
    """

    protocol = "http1"
    followed = unread = False  # see H2Stream: an attempt asks any stream

    __slots__ = (
        "_busy",
        "_chunked",
        "_closing",
        "_decoder",
        "_flushed",
        "_interim",
        "_out",
        "_request_ended",
        "_response_begun",
        "_response_ended",
        "_upgrade",
        "dirty",
        "idle_hint",
        "idle_since",
        "owner",
        "transport",
        "trouble",
        "turn",
        "used",
    )

    def __init__(self, runtime: Runtime, owner: Owner) -> None:
        self.runtime = runtime
        self.turn = runtime.turn
        self.owner = owner
        self.receiver: Receiver | None = None
        self.transport: Any = None
        self.dirty = False
        self.write_paused = False
        self.used = 0
        self.idle_since = 0.0
        self.trouble = ""  # what is wrong with its answer, in a few words
        self.idle_hint = 0  # what the server said of its idle timeout, in seconds, or 0
        self._decoder = h1.ResponseDecoder(self)
        self._out: list[bytes] = []
        self._busy = False
        self._closing = False  # whether the end of the connection is our doing
        self._chunked = False
        self._flushed = False  # whether bytes of this request may have reached the peer
        self._request_ended = True
        self._response_begun = False
        self._response_ended = True
        self._interim = 0
        self._upgrade = b""
        self._reading_paused = False

    def open(self, receiver: Receiver) -> "H1ClientConnection":
        """Take the connection for one exchange."""
        self.receiver = receiver
        self._busy = True
        self.used += 1
        self._flushed = False
        self._request_ended = False
        self._response_begun = False
        self._response_ended = False
        self._interim = 0
        return self

    # From the transport.

    def connection_made(self, transport: Any) -> None:
        """The connection is open."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes from the server."""
        turn = self.turn
        turn.begin()
        if len(data) >= BULK:
            turn.bulky = True
        try:
            if not self._busy:
                # An answer to nothing (RFC 9112 9.2 lets us close, nothing else is safe).
                self._drop()
                return
            self._decoder.feed(data)
            if self._response_ended and self._busy:
                self._release()
        except h1.H1Error as error:
            self.trouble = self._other_protocol(data) or str(error)
            self._break(Failure.PROTOCOL)
        except Exception as error:  # a bug of ours ends this connection, not the process
            self.on_crash(error)
        finally:
            turn.end()

    def _other_protocol(self, data: bytes) -> str:
        """What the server speaks, where its first bytes say that it is no HTTP/1.1."""
        if self.used > 1 or self._response_begun or self._interim:
            return ""
        if data.startswith(_TLS_ALERT):
            return "it speaks TLS"
        return "it speaks HTTP/2" if data[3:9] == _SETTINGS else ""

    def eof_received(self) -> bool:
        """The server closed its side."""
        turn = self.turn
        turn.begin()
        keep = False
        try:
            if not self._busy:
                self.transport = None  # it closes by itself: nobody may take it up before it has
            elif not self._response_ended:
                # The other direction of a tunnel may go on.
                keep = self._decoder.tunnelled and not self._request_ended
                if self._decoder.eof() and not self._upgrade:
                    self._drop()
        except Exception as error:
            self.on_crash(error)
        finally:
            turn.end()
        return keep

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        turn = self.turn
        turn.begin()
        try:
            transport, self.transport = self.transport, None  # nobody may take it up any more
            self._leave_crowd()
            if error is not None and transport is not None:
                self._hear_last_words(transport)
            self._lost(error)
        finally:
            turn.end()

    def _hear_last_words(self, transport: Any) -> None:
        """A server that answers early resets the connection with our request unread, and we
        may have met that in writing: what it has said before is its answer."""
        for data in last_words(transport):
            if self._response_ended:
                return
            self.data_received(data)

    def _lost(self, error: Exception | None) -> None:
        idle = not self._busy and not self._closing
        if self._busy and error is None and not self._response_ended and self._decoder.eof():
            self._response_ended = True
        if not self._response_ended:
            # A server that refused our certificate has read nothing of what we sent.
            self._fail(Failure.CONNECT_FAILED if isinstance(error, RefusedError) else self._failure())
        elif error is not None and self._upgrade and self.receiver is not None and not self._request_ended:
            # A tunnel of which the server had ended its direction takes no more of ours.
            receiver, self.receiver = self.receiver, None
            receiver.on_reset(Failure.RESET)
        self._busy = False
        self.owner.on_closed(self, idle)
        self._decoder.close()

    def _failure(self) -> Failure:
        if not self._flushed:
            return Failure.UNSENT
        if self.used > 1 and not self._response_begun and not self._interim and self._decoder.untouched:
            return Failure.STALE_REUSE
        return Failure.RESET

    # From the decoder.

    def on_informational_head(self, head: ResponseHead) -> None:
        """A 1xx response."""
        if self._response_begun:
            raise h1.H1Error("a second answer to one request")
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise h1.H1Error("too many 1xx responses")
        if self.receiver is not None:
            self.receiver.on_informational(head)

    def on_message_head(self, head: ResponseHead, end: bool) -> None:
        """The final response head; one that answers nothing poisons the connection."""
        if self._response_begun:
            raise h1.H1Error("a second answer to one request")
        self._response_begun = True
        self._response_ended = end
        if self.receiver is not None:
            self.receiver.on_head(head, end)

    def on_message_data(self, data: bytes, end: bool) -> None:
        """Response body."""
        self._response_ended = end
        if self.receiver is not None:
            self.receiver.on_data(data, end)

    def on_message_end(self, trailers: Headers) -> None:
        """The end of a chunked or close-delimited body."""
        self._response_ended = True
        if self.receiver is None:
            return
        if trailers:
            self.receiver.on_trailers(trailers)
        else:
            self.receiver.on_data(b"", True)

    # Stream: what the attempt asks for.

    def send_head(self, head: RequestHead, end: bool) -> None:
        """The request head; chunked when its length is not known."""
        path = head.path
        if not path.isascii() or b"#" in path:
            self._turn_away()
            return
        data, self._chunked = h1.encode_request(head, end)
        if _LENGTH in data or _ENCODING in data:
            self._turn_away()
            return
        self._decoder.expect(head)
        self._upgrade = head.upgrade
        self._out.append(data)
        self._request_ended = end
        if not self.dirty:
            self.turn.mark(self)

    def _turn_away(self) -> None:
        """A target that HTTP/2 let in, whose syntax RFC 9113 8.3.1 leaves to others, and that
        HTTP/1.1 would not; or a name that some take for framing (MISSPELLED)."""
        receiver = self.receiver
        self._withdraw()
        if receiver is not None:
            receiver.on_reset(Failure.BAD_REQUEST)

    def send_informational(self, head: ResponseHead) -> None:
        """Requests have no interim heads."""

    def send_data(self, data: bytes, end: bool) -> bool:
        """Body bytes of the request, or tunnelled ones."""
        if self._request_ended or self.transport is None:
            return True
        if not self._chunked:
            if data:
                self._out.append(data)
        elif data:
            self._out.append(b"%x\r\n" % len(data))
            self._out.append(data)
            self._out.append(b"\r\n0\r\n\r\n" if end else b"\r\n")
        elif end:
            self._out.append(b"0\r\n\r\n")
        self._request_ended = end
        if not self.dirty:
            self.turn.mark(self)
        return not self.write_paused

    def send_trailers(self, trailers: Headers) -> None:
        """Trailers of the request; without chunks there is no place for them."""
        if self._request_ended or self.transport is None:
            return
        if self._chunked:
            self._out.append(h1.encode_trailers(trailers))
        self._request_ended = True
        if not self.dirty:
            self.turn.mark(self)

    def pause(self) -> None:
        """Read no more of the response."""
        self._pause_reading()

    def resume(self) -> None:
        """Read the response again."""
        self._resume_reading()

    def reset(self, failure: Failure) -> None:
        """Give the exchange up: HTTP/1 can only do that by closing, unless nothing was written."""
        if self._upgrade and self._decoder.tunnelled and self.transport is not None:
            self._break_tunnel()
        elif self._flushed or not self._busy or self.transport is None:
            self.receiver = None
            self._response_ended = True
            self._drop()
        else:
            self._withdraw()

    def _break_tunnel(self) -> None:
        """The server gets what the client said before it broke off, and learns that it did."""
        self.receiver = None
        self._response_ended = self._closing = True
        transport, self.transport = self.transport, None
        if self._out:
            write_all(transport, self._out)
            self._out = []
        reset_behind(transport, self.runtime.timers)

    def _withdraw(self) -> None:
        """Nothing of the request goes out, and the connection is as good as before."""
        self.receiver = None
        self.used -= 1
        self._out.clear()
        self._request_ended = self._response_ended = True
        self._upgrade = b""
        if not self.dirty:
            self.turn.mark(self)

    # Output and the way back.

    def flush(self) -> None:
        """Write what this turn produced."""
        self.dirty = False
        out = self._out
        if out and self.transport is not None:
            self._flushed = True
            if len(out) == 1:
                self.transport.write(out[0])  # a request without a body, or one chunk of it
            else:
                write_all(self.transport, out)
            self._out = []
        if self._upgrade and self._request_ended and self._decoder.tunnelled and not self._response_ended:
            self._half_close()
        if self._response_ended and self._busy:
            self._release()

    def _half_close(self) -> None:
        # TLS has no half-close: there the server has to end the tunnel.
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()

    def _release(self) -> None:
        """The answer has ended: back to the pool, or closed when something is left over."""
        if self._upgrade:
            if not self._decoder.tunnelled:
                self._drop()
            elif self._request_ended:
                self.close()  # what was written still goes out
            return
        if not self._request_ended:
            self._drop()
            return
        if self._out:
            return  # the flush of this turn comes first
        self.receiver = None
        self._busy = False
        if self._reading_paused:
            self._resume_reading()
        decoder = self._decoder
        if decoder.keep_alive and decoder.between_messages and self.transport is not None:
            self.idle_since = self.turn.now
            self.idle_hint = self._decoder.idle_hint
            self.owner.on_idle(self)
        else:
            self.close()

    def on_crash(self, error: Exception) -> None:
        """A bug of ours met this connection: its exchange fails, and it is not used again."""
        receiver, self.receiver = self.receiver, None
        self._response_ended = True
        if receiver is not None:
            receiver.on_crash(error)
        else:
            self.runtime.on_crash(error)
        self._drop()

    def _break(self, failure: Failure) -> None:
        self._fail(failure)
        self._drop()

    def _fail(self, failure: Failure) -> None:
        receiver, self.receiver = self.receiver, None
        ended, self._response_ended = self._response_ended, True
        if receiver is not None and not ended:
            receiver.on_reset(failure)

    def _drop(self) -> None:
        """Close without a way back."""
        self.receiver = None
        self._closing = True
        transport, self.transport = self.transport, None  # nobody may take it up any more
        if transport is not None:
            transport.abort()

    def close(self) -> None:
        """Close in good order."""
        self._closing = True
        if self.transport is not None:
            self.transport.close()
