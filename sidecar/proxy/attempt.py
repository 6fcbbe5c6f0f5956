"""One try of an exchange at one endpoint: the receiver of its upstream stream.

Until the exchange commits to it, an attempt keeps what the endpoint says; from
then on it passes it straight to the client's stream.
"""

from typing import TYPE_CHECKING, Any

from sidecar.codec.grpc import MessageCounter, head_is_grpc
from sidecar.model.head import ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure, Verdict
from sidecar.proxy.events import END, FAILED, HEAD, STREAM
from sidecar.upstream.endpoint import Endpoint

if TYPE_CHECKING:
    from sidecar.proxy.exchange import Exchange

_IGNORED = Verdict.IGNORED  # read off the class it would cost as much as five of the slots below

# How much of an answer is kept while it is not decided whether the client gets it.
_HOLD_BYTES = 64 * 1024
# Never added to. An empty list for every try would be made and freed for nothing.
_NOTHING: list[bytes] = []


class Attempt:
    """Receiver and Waiter. `latency` is the time to the response head in seconds."""

    is_hedge = False

    __slots__ = (
        "code",
        "committed",
        "counter",
        "detail",
        "ended",
        "endpoint",
        "exchange",
        "failure",
        "finished",
        "first",
        "head",
        "held",
        "held_bytes",
        "latency",
        "number",
        "permit",
        "sent",
        "settled",
        "started",
        "stream",
        "told",
        "trailers",
        "verdict",
    )

    def __init__(self, exchange: "Exchange", endpoint: Endpoint, number: int, permit: int, now: float) -> None:
        self.exchange = exchange
        self.endpoint = endpoint
        self.number = number
        self.permit = permit
        self.started = now
        self.ended = 0.0  # when it was settled
        self.latency = 0.0
        self.stream: Any = None
        self.head: ResponseHead | None = None
        self.code: int | None = None  # the gRPC status that the answer ended with
        self.trailers: Headers | None = None
        self.failure: Failure | None = None
        self.finished = False  # the answer has ended
        self.committed = False
        self.settled = False
        self.sent = False  # the request went to `stream`, and so does what follows of it
        self.verdict = _IGNORED
        self.told = False  # the exchange knows of the head
        self.held: list[bytes] = _NOTHING
        self.held_bytes = 0
        # Of a gRPC answer that did not end at once: its first chunk, and its messages.
        self.first: bytes | None = None
        self.counter: MessageCounter | None = None

    # Waiter: what the pool tells.

    def on_stream(self, stream: Any) -> None:
        """A stream, later than asked for."""
        self.stream = stream
        self.exchange.wake(self, STREAM)

    def on_no_stream(self, failure: Failure) -> None:
        """No stream."""
        self.failure = failure
        self.detail = self.endpoint.trouble
        self.exchange.wake(self, FAILED)

    # Receiver: what the endpoint says.

    def on_informational(self, head: ResponseHead) -> None:
        """1xx goes on at once: a client that waits for 100 must get it."""
        exchange = self.exchange
        if exchange.attempt is self and not exchange.committed:
            exchange.stream.send_informational(head)

    def on_head(self, head: ResponseHead, end: bool) -> None:
        """The final head. It is told together with the body that was read with it, and
        a gRPC one without a message behind it waits for the end of the turn: whether
        trailers follow at once decides about a retry."""
        exchange = self.exchange
        turn = exchange.runtime.turn
        self.head = head
        self.finished = end
        self.latency = turn.now - self.started
        if not end:
            if self.stream.followed:
                return  # the body that comes next wakes the exchange for both
            if exchange.grpc:
                turn.at_end(self)
                return
        self.told = True
        exchange.wake(self, HEAD)

    def on_turn_end(self) -> None:
        """The head of a gRPC answer came with nothing behind it: a stream. Of a long read
        the rest may be told in later turns, which is no silence."""
        if not self.told and self.failure is None and (self.exchange.attempt is self or not self.settled):
            if self.stream is not None and self.stream.unread:
                self.stream.tell_later(self)
                return
            self.told = True
            if self.head is not None and head_is_grpc(self.head):
                self.exchange.saw_stream()
            self.exchange.wake(self, HEAD)

    def on_data(self, data: bytes, end: bool) -> None:
        """Body bytes: to the client, or kept until it is decided who gets them."""
        self.finished = end
        if self.committed:
            exchange = self.exchange
            exchange.active_at = exchange.runtime.turn.now
            exchange.bytes_out += len(data)
            if exchange.grpc and not end and not exchange.streaming:
                exchange.saw_answer_data(self, data)
            if not exchange.stream.send_data(data, end) and not end:
                self.hold_up()
            if end:
                exchange.wake(self, END)
            return
        if data:
            if self.held:
                self.held.append(data)
            else:
                self.held = [data]
            self.held_bytes += len(data)
            if self.held_bytes > _HOLD_BYTES and not end:
                self.stream.pause()
        if not self.told:
            self.told = True
            self.exchange.wake(self, HEAD)

    def on_trailers(self, trailers: Headers) -> None:
        """The end, with trailers."""
        self.trailers = trailers
        self.finished = True
        if self.committed:
            self.exchange.stream.send_trailers(trailers)
            self.exchange.wake(self, END)
        elif not self.told:
            self.told = True
            self.exchange.wake(self, HEAD)

    def on_full(self) -> None:
        """The endpoint takes no more of the request for now."""
        exchange = self.exchange
        if exchange.attempt is self and exchange.upload is not None:
            exchange.upload.pause()

    def on_writable(self) -> None:
        """The endpoint takes request bytes again."""
        exchange = self.exchange
        if exchange.attempt is self:
            exchange.resume_request()

    def on_reset(self, failure: Failure) -> None:
        """The endpoint, or the connection to it, gave the stream up."""
        stream, self.stream = self.stream, None
        self.failure = failure
        if failure is Failure.CONNECT_FAILED:
            self.detail = self.endpoint.trouble
        elif failure in (Failure.PROTOCOL, Failure.RESET) and stream is not None:
            self.detail = stream.trouble
        self.exchange.wake(self, FAILED)

    def on_crash(self, error: Exception) -> None:
        """What was told here met a bug of ours."""
        exchange = self.exchange
        if exchange.attempt is self or not self.settled:
            exchange.on_crash(error)
        else:
            exchange.runtime.on_crash(error)
            self.abandon()

    # What the exchange asks for.

    @property
    def why(self) -> str:
        """More of why there was no stream, or no answer, in a few words; "" where nothing is known."""
        found: str = getattr(self, "detail", "")  # unset where nothing went wrong, nearly always
        return found

    def hand_over(self) -> None:
        """Pass the answer to the client: what was kept now, the rest as it comes."""
        exchange = self.exchange
        self.committed = True
        held, self.held = self.held, _NOTHING
        if self.finished and self.trailers is None and len(held) == 1:  # nearly always
            exchange.bytes_out += len(held[0])
            exchange.stream.send_data(held[0], True)
            return
        # How many chunks there are up to the one that ends it.
        left = len(held) if self.finished and self.trailers is None else 0
        writable = True
        if held and not self.finished and exchange.grpc:
            self.first = held[0]
            for data in held[1:] if len(held) > 1 else ():
                exchange.saw_answer_data(self, data)
        for data in held:
            left -= 1
            exchange.bytes_out += len(data)
            writable = exchange.stream.send_data(data, not left)
        if self.trailers is not None:
            exchange.stream.send_trailers(self.trailers)
        elif not self.finished and self.stream is not None:
            if self.held_bytes > _HOLD_BYTES and writable:
                self.stream.resume()
            elif not writable:
                self.hold_up()

    def hold_up(self) -> None:
        """The client is behind: read no more of the answer until it has caught up."""
        self.stream.pause()
        self.exchange.held_up = True

    def abandon(self) -> None:
        """Nobody wants the rest of this try."""
        stream, self.stream = self.stream, None
        self.held = _NOTHING
        if stream is not None and not (self.finished and self.sent and self.exchange.request_ended):
            stream.reset(Failure.CANCELLED)

    def give_back(self) -> None:
        """The answer has ended before the request: the rest of that has no use."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.reset(Failure.CANCELLED)


class Hedge(Attempt):
    """A second try beside one that is slow."""

    __slots__ = ()
    is_hedge = True
