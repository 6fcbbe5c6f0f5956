"""Requests of one HTTP/1 connection, one after the other.

HTTP/1 has only one message pair at a time. A pipelined request is parsed and waits in a queue
until the answer before it has been written (RFC 9112 9.3.2).
"""

from collections import deque
from typing import Any

from sidecar.model.head import RequestHead
from sidecar.model.headers import Headers
from sidecar.policy.pace import Pace
from sidecar.proxy.runtime import Runtime
from sidecar.wire.h1_watch import Watched

# What a client may send ahead while it waits for answers.
_PIPELINE_EVENTS = 64


class Pipelined(Watched):
    """What the decoder tells: for the exchange that is under way, or kept for its turn."""

    __slots__ = ("_body_paused", "_close_after")

    def __init__(self, runtime: Runtime, pace: Pace) -> None:
        super().__init__(runtime, pace)
        self._body_paused = False  # because of the exchange, not of the pipeline
        self._close_after = False

    def _start(self, head: RequestHead, end: bool, keep_alive: bool, version: str) -> None:
        """The request's turn has come."""
        raise NotImplementedError

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

    # The queue.

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

    # Back-pressure.

    def pause(self) -> None:
        """Read no more of the request body."""
        self._body_paused = True
        self._pause_reading()

    def resume(self) -> None:
        """Read the request body again."""
        self._body_paused = False
        if not self._queue:
            self._resume_reading()

    def let_go(self) -> None:
        """Read again, having been held back."""
        if not self._queue and not self._body_paused:
            self._resume_reading()
