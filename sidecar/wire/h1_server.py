"""HTTP/1.1 downstream: one client's connection, from its first byte to its end.

The connection is itself the Stream of the message pair that is under way. In four files, each
a part of one class: what is looked at by the clock (`h1_watch`), requests in order
(`h1_pipeline`), answers as bytes (`h1_answer`), and here where they meet.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from sidecar.codec import h1
from sidecar.model.head import RequestHead
from sidecar.model.outcome import Failure
from sidecar.policy.pace import Pace
from sidecar.proxy.runtime import Runtime
from sidecar.wire.h1_answer import Answering
from sidecar.wire.h1_refusal import error_response
from sidecar.wire.last_words import last_words
from sidecar.wire.peer import peer_of
from sidecar.wire.portion import succeed
from sidecar.wire.turn import BULK

_PACE = Pace()


class H1ServerConnection(Answering):
    """One accepted connection that speaks HTTP/1.

    `begin(stream, head, end)` makes the exchange of a request and sets
    `receiver`. `on_closed(connection)` is called once at the end.
    """

    protocol = "http1"
    unread = False  # see H2Stream: what is read is told at once

    __slots__ = ("_begin", "_deaf", "_detached", "_on_closed", "peer")

    def __init__(
        self,
        runtime: Runtime,
        begin: Callable[[Any, RequestHead, bool], None],
        on_closed: Callable[[Any], None],
        peer: str = "",
        pace: Pace = _PACE,
    ) -> None:
        super().__init__(runtime, pace)
        self.peer = peer
        self._begin = begin
        self._on_closed = on_closed
        self._deaf = False  # what the client sends is dropped
        self._detached: Callable[[], asyncio.Protocol] | None = None

    # From the transport.

    def connection_made(self, transport: Any) -> None:
        """The connection is open."""
        self.transport = transport
        self.peer = self.peer or peer_of(transport)
        if transport.get_extra_info("ssl_object") is not None:
            self._decoder.scheme = b"https"
        self._idle_since = self.turn.now
        self._idle_token = self.runtime.timers.add(self._pace.look, self)
        if self.runtime.crowd.is_one:
            self.adapt_to_crowd()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        turn = self.turn
        turn.begin()
        if len(data) >= BULK:
            turn.bulky = True
            self.runtime.growth.took(len(data))
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
        self._leave_crowd()
        try:
            transport, self.transport = self.transport, None
            if error is not None and self._tunnel and transport is not None:
                # Of a request its client's end is the end; a tunnel has carried its last words.
                for data in last_words(transport):
                    self.data_received(data)
            receiver, self.receiver = self.receiver, None
            if receiver is not None:
                receiver.on_reset(Failure.CANCELLED)
            self._on_closed(self)
        finally:
            self._decoder.close()
            turn.end()

    # A request and its end.

    def _start(self, head: RequestHead, end: bool, keep_alive: bool, version: str) -> None:
        """The request's turn has come."""
        self._waiting = True
        self._head = head
        self._request_ended = end
        self._response_started = False
        self._bodyless = head.method == b"HEAD"
        self._connecting = connecting = head.method == b"CONNECT"
        self._upgrade_asked = connecting or head.upgrade != b""
        self._http11 = version == "1.1"
        self._chunked = False
        if not keep_alive or self.draining:
            self._close_after = True
        # A whole request in HTTP/1.1 on a connection that stays; see `send_head`.
        self._ordinary = end and self._http11 and not (self._close_after or self._bodyless or connecting)
        self._begin(self, head, end)

    def reset(self, failure: Failure) -> None:
        """Break the connection off: the only way to spoil a response that has begun."""
        self.receiver = None
        self._waiting = False
        self._close_after = self._deaf = True
        if self.transport is not None:
            self._break_off()

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

    def detach(self, successor: Callable[[], asyncio.Protocol]) -> None:
        """Answer a CONNECT with 200 and leave the connection to another protocol, once
        the bytes that are being read are all told."""
        self._detached = successor
        self.turn.at_end(self)

    def _leave(self, successor: asyncio.Protocol) -> None:
        self._flush_out()  # answers to pipelined requests before it
        self._resume_reading()
        self._leave_crowd()
        transport, self.transport = self.transport, None
        self._waiting = False
        self._forget_idle()  # whoever comes next keeps the time
        transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        succeed(transport, successor)
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

    def _refuse(self, error: h1.H1Error) -> None:
        """The client's bytes are wrong: say so if an answer is still possible, and close."""
        self._deaf = True
        if error.status == 503:
            self._decoder.close()  # nobody waits for the rest, nor is what was read kept
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
                receiver.on_reset(Failure.SLOW_REQUEST if error.status == 408 else Failure.BAD_REQUEST)
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

    # Drain.

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

    def give_up_head(self) -> None:
        """There is no memory for what is read of a head: the client is told, and it is let go."""
        if self._decoder.in_head and not self._deaf:
            self._refuse(h1.H1Error(h1.NO_MEMORY, 503))

    def abort(self) -> None:
        """Give up whatever is under way."""
        if self.transport is not None:
            self.transport.abort()
