"""The one seam at which HTTP versions meet: Stream and Receiver.

A Stream is one side of one message pair: the downstream side takes a response
and tells of a request, the upstream side takes a request and tells of a
response. What it hears it tells its Receiver.

Rules that every implementation keeps (tests/wire):

- No method of a Stream raises, and none calls its receiver before it returns:
  what goes wrong is told later by `on_reset`, from the event loop.
- `end=True` comes once per direction: with the head, with the last data, or by
  trailers. After it nothing more is told or taken in that direction.
- After `on_reset` or `reset` neither side hears anything more.
- `send_data` takes every byte it is given, always. False asks the sender to
  hold until `on_writable`: it bounds memory, it is not an error.
- `pause` stops reading from the peer; what was already read still arrives and
  is bounded by one read (HTTP/1) or one flow-control window (HTTP/2).
"""

from typing import Any, Protocol

from sidecar.model.head import ResponseHead
from sidecar.model.headers import Headers
from sidecar.model.outcome import Failure


class Receiver(Protocol):
    """What a stream tells the exchange that owns it."""

    def on_head(self, head: Any, end: bool) -> None:
        """The final response head (upstream streams only: a downstream stream
        is made with its request head)."""

    def on_informational(self, head: ResponseHead) -> None:
        """A 1xx response before the final one (upstream streams only)."""

    def on_data(self, data: bytes, end: bool) -> None:
        """Body bytes as they came; `data` may be empty when `end` is True."""

    def on_trailers(self, trailers: Headers) -> None:
        """Trailer fields; they end the message."""

    def on_full(self) -> None:
        """What `send_data` took is more than the peer takes: hold until `on_writable`. HTTP/1
        writes at the end of a turn, and knows by then."""

    def on_writable(self) -> None:
        """A `send_data` that returned False may go on, and so may who heard `on_full`."""

    def on_reset(self, failure: Failure) -> None:
        """The stream is gone: no further call in either direction."""

    def on_crash(self, error: Exception) -> None:
        """One of the calls above raised, which none may: a bug of ours. It ends what it is
        for, its stream too, and reports the error."""


class Stream(Protocol):
    """One side of one message pair."""

    receiver: Receiver | None
    # Upstream: whether body or trailers were read together with the head that is
    # being told, and are told next. HTTP/1 need not know.
    followed: bool
    # Whether something was read that is told in the next turns, perhaps of this stream. If
    # so, `tell_later(waiting)` has `waiting.on_turn_end()` called behind it.
    unread: bool
    # Upstream: what was wrong with the answer, in a few words, when `on_reset` tells of it.
    trouble: str

    def send_head(self, head: Any, end: bool) -> None:
        """A RequestHead upstream, the final ResponseHead downstream."""

    def send_informational(self, head: ResponseHead) -> None:
        """A 1xx response (downstream streams only)."""

    def send_data(self, data: bytes, end: bool) -> bool:
        """Body bytes; False asks to hold until `on_writable`."""

    def send_trailers(self, trailers: Headers) -> None:
        """Trailer fields; they end our direction."""

    def pause(self) -> None:
        """Stop reading this stream's body."""

    def resume(self) -> None:
        """Read this stream's body again."""

    def reset(self, failure: Failure) -> None:
        """Give the stream up: RST_STREAM, or the end of an HTTP/1 connection."""
