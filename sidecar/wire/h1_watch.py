"""An HTTP/1 client's connection as it is looked at every few seconds: too slow, or idle for too long.

One timer for the whole connection; nothing is counted for it as bytes come.
"""

from collections import deque
from typing import Any

from sidecar.codec import h1
from sidecar.model.head import RequestHead
from sidecar.model.headers import Headers, get
from sidecar.policy.pace import Pace, Progress
from sidecar.proxy.runtime import Runtime
from sidecar.wire.paced import Paced

# How long the rest of a request is read and dropped after an early answer, so
# that closing does not destroy the answer in the client's buffer (RFC 9112 9.6).
_LINGER_SECONDS = 2.0


class Watched(Paced):
    """The state that tells whose turn it is, the client's or ours, and the timer that looks at it."""

    __slots__ = (
        "_decoder",
        "_head",
        "_idle_since",
        "_idle_token",
        "_lingering",
        "_pace",
        "_progress",
        "_queue",
        "_request_ended",
        "_response_started",
        "_tunnel",
        "_waiting",
        "transport",
        "turn",
    )

    def __init__(self, runtime: Runtime, pace: Pace) -> None:
        self.runtime = runtime
        self.turn = runtime.turn
        self.receiver = None
        self.transport: Any = None
        self.write_paused = False
        self._pace = pace
        self._progress = Progress()
        self._decoder = h1.RequestDecoder(self)
        self._decoder.growth = runtime.growth
        # Heads, data and ends of pipelined requests, as the decoder told them.
        self._queue: deque[tuple[str, Any, bool]] = deque()
        self._head: RequestHead | None = None
        self._waiting = False  # a response is owed
        self._request_ended = True
        self._response_started = False
        self._tunnel = False
        self._lingering = False
        self._reading_paused = False
        self._idle_token = 0
        self._idle_since = 0.0

    def on_message_head(self, head: RequestHead, end: bool) -> None:
        """A request."""
        raise NotImplementedError

    def on_message_data(self, data: bytes, end: bool) -> None:
        """Its body."""
        raise NotImplementedError

    def on_message_end(self, trailers: Headers) -> None:
        """Its end."""
        raise NotImplementedError

    def _refuse(self, error: h1.H1Error) -> None:
        raise NotImplementedError

    def _linger(self) -> None:
        self._forget_idle()
        self._idle_token = self.runtime.timers.add(_LINGER_SECONDS, self)

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
