"""What a decoder tells of some bytes, written down so that it can be compared.

Body bytes that follow each other are joined: how they were cut depends on the
reads, and is nobody's business.
"""

from itertools import pairwise
from typing import Any

from sidecar.codec import h1
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers

Entry = tuple[Any, ...]


class Transcript:
    """A sink that remembers. `on_head` lets a test answer an upgrade in the middle of a read."""

    def __init__(self) -> None:
        self.log: list[Entry] = []

    def on_message_head(self, head: Any, end: bool) -> None:
        if isinstance(head, RequestHead):
            entry: Entry = (head.method, head.path, head.authority, head.headers, head.length)
            if head.upgrade:
                entry += (head.upgrade,)
        else:
            entry = (head.status, head.headers, head.length)
        self.log.append(("head", *entry))
        if end:
            self.log.append(("end",))

    def on_informational_head(self, head: ResponseHead) -> None:
        self.log.append(("1xx", head.status, head.headers))

    def on_message_data(self, data: bytes, end: bool) -> None:
        if self.log and self.log[-1][0] == "data":
            self.log[-1] = ("data", self.log[-1][1] + data)
        else:
            self.log.append(("data", data))
        if end:
            self.log.append(("end",))

    def on_message_end(self, trailers: Headers) -> None:
        self.log.append(("end", trailers) if trailers else ("end",))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes in pieces that end at the given places."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [piece for start, end in pairwise(edges) if (piece := data[start:end])]


def fed_until_refused(decoder: Any, more: bytes) -> tuple[int, int]:
    """How many bytes of an endless row a decoder takes, and with which status it ends."""
    fed = 0
    while fed < 1_000_000:
        try:
            decoder.feed(more)
        except h1.H1Error as error:
            return fed, error.status
        fed += len(more)
    raise AssertionError("never refused")


def requests(pieces: list[bytes]) -> list[Entry]:
    """What a server's decoder tells of the bytes; an error is the last entry."""
    sink = Transcript()
    decoder = h1.RequestDecoder(sink)
    try:
        for piece in pieces:
            decoder.feed(piece)
    except h1.H1Error as error:
        sink.log.append(("error", error.status))
    return sink.log


def responses(
    pieces: list[bytes], method: bytes = b"GET", upgrade: bytes = b"", eof: bool = False
) -> tuple[list[Entry], bool]:
    """What a client's decoder tells of the bytes, and whether the connection is fit for another request."""
    sink = Transcript()
    decoder = h1.ResponseDecoder(sink)
    decoder.expect(RequestHead(method, b"/", b"a", [], upgrade=upgrade))
    try:
        for piece in pieces:
            decoder.feed(piece)
    except h1.H1Error:
        sink.log.append(("error",))
        return sink.log, False
    if eof and not decoder.eof():
        sink.log.append(("cut off",))
    return sink.log, decoder.keep_alive and decoder.between_messages
