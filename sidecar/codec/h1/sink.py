"""Who hears what a decoder found."""

from typing import Any, Protocol

from sidecar.model.head import ResponseHead
from sidecar.model.headers import Headers


class Sink(Protocol):
    """Who hears what a decoder found. `end` or `on_message_end` comes once a message."""

    def on_message_head(self, head: Any, end: bool) -> None:
        """A request head or a final response head."""

    def on_message_data(self, data: bytes, end: bool) -> None:
        """Body bytes."""

    def on_message_end(self, trailers: Headers) -> None:
        """The end that was not told with head or data; trailers may be empty."""


class ResponseSink(Sink, Protocol):
    """A sink that also hears of 1xx responses."""

    def on_informational_head(self, head: ResponseHead) -> None:
        """A 1xx response other than 101."""
