"""What the client sends behind its head: on to the endpoint as it comes, and kept
while a repeat is possible or nobody can take it yet."""

from typing import TYPE_CHECKING, Any

from sidecar.codec.grpc import MessageCounter
from sidecar.model.headers import Headers

if TYPE_CHECKING:
    from sidecar.proxy.attempt import Attempt
    from sidecar.proxy.exchange import Exchange

# Request bytes that are taken in while no stream can carry them yet: less than one large read.
_HOLD_BYTES = 64 * 1024


class Upload:
    """The body of one request.

    `dropped` says that bytes were let go, so that no repeat is possible; `messages`
    counts the whole messages of a gRPC call, and is exact up to two.
    """

    __slots__ = ("_counter", "_exchange", "_paused", "_size", "chunks", "dropped", "messages", "trailers")

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange
        self.chunks: list[bytes] = []
        self._size = 0
        self.dropped = False
        self.trailers: Headers | None = None
        self.messages = 0
        self._counter: MessageCounter | None = None
        self._paused = False

    def take(self, data: bytes, end: bool) -> None:
        """Bytes from the client."""
        exchange = self._exchange
        if exchange.grpc and data and not (end and self._counter is None and _is_one_message(data)):
            self._count_messages(data, end)
        stream = self._taker(exchange.attempt)
        if not exchange.committed and (stream is None or not self.dropped):
            self._keep(data, stream is not None)
        if stream is not None and not stream.send_data(data, end) and not end:
            self.pause()

    def take_trailers(self, trailers: Headers) -> None:
        """Trailers from the client."""
        self.trailers = trailers
        stream = self._taker(self._exchange.attempt)
        if stream is not None:
            stream.send_trailers(trailers)

    @staticmethod
    def _taker(attempt: "Attempt | None") -> Any:
        """The stream that takes what comes: of a try that has got all before it."""
        return attempt.stream if attempt is not None and attempt.sent else None

    def replay(self, stream: Any, ended: bool) -> None:
        """Send what was kept to a new try's stream."""
        # How many chunks there are up to the one that ends it.
        left = len(self.chunks) if ended and self.trailers is None else 0
        writable = True
        for data in self.chunks:
            left -= 1
            writable = stream.send_data(data, not left)
        if self.trailers is not None:
            stream.send_trailers(self.trailers)
        if self._size > self._replay_limit():
            self.let_go()
        if writable:
            self.resume()

    def _keep(self, data: bytes, sent: bool) -> None:
        if data:
            self.chunks.append(data)
            self._size += len(data)
        if sent:
            if self._size > self._replay_limit():
                self.let_go()
        elif self._size > min(_HOLD_BYTES, self._exchange.runtime.crowd.portion):
            self.pause()

    def _replay_limit(self) -> int:
        route = self._exchange.route
        return route.retry.replay if route is not None and route.retry.attempts > 1 else 0

    def let_go(self) -> None:
        """Keep nothing any more: no repeat will be possible."""
        if self.chunks:
            self.dropped = True
            self.chunks = []
            self._size = 0

    @property
    def is_paused(self) -> bool:
        """Whether it is not for the client to go on."""
        return self._paused

    def pause(self) -> None:
        """Ask the client to wait; `on_writable` of the attempt, or a send, resumes."""
        exchange = self._exchange
        if not self._paused and not exchange.request_ended:
            self._paused = True
            exchange.stream.pause()
            crowd = exchange.runtime.crowd
            if crowd.is_one and self._size > crowd.portion and self._taker(exchange.attempt) is not None:
                self.let_go()  # a repeat is worth less than the memory of hundreds that wait

    def resume(self) -> None:
        """There is room again for what the client sends."""
        if self._paused:
            self._paused = False
            self._exchange.stream.resume()

    # Streams of gRPC.

    def _count_messages(self, data: bytes, end: bool) -> None:
        """Find out whether this is a stream: a second message, or a first one
        without half-close behind it in the same read."""
        if self.messages > 1:
            return
        if self._counter is None:
            self._counter = MessageCounter()
        self.messages = self._counter.feed(data)
        if self.messages > 1:
            self._exchange.saw_stream()
        elif self.messages == 1 and not end:
            self._exchange.runtime.turn.at_end(self)

    def on_turn_end(self) -> None:
        """The first message has come, its end has not, and is not among what was read."""
        exchange = self._exchange
        if exchange.request_ended or exchange.is_over:
            return
        if exchange.stream.unread:
            exchange.stream.tell_later(self)
        else:
            exchange.saw_stream()

    def on_crash(self, error: Exception) -> None:
        """What was told here met a bug of ours."""
        self._exchange.on_crash(error)


def _is_one_message(data: bytes) -> bool:
    """Whether a whole gRPC request is one message at most: prefix and length."""
    return len(data) <= 5 + int.from_bytes(data[1:5], "big")
