"""Any bytes from an HTTP/1 server, as the answer to GET, to HEAD or to an upgrade: a
response, or H1Error, never anything else; and cut in any way it is the same response.

Compared is everything up to the end of the first final response: a server that says
more than it was asked is dropped by the connection, whenever the rest comes.
"""

from random import Random
from typing import Any, Final

from fuzz.mutate import split
from sidecar.codec.h1 import H1Error, ResponseDecoder
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"
SEEDS: Final = (
    _OK,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\ngrpc-status: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + _OK,
    b"HTTP/1.1 204 No Content\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\nETag: x\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi",
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close, x\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 7000,
)
WORDS: Final = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\r\n ", b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/2 ", b"100", b"101", b"204",
    b"304", b"099", b"999", b"Content-Length: 0\r\n", b"Content-Length: 3\r\n", b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: websocket\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"Keep-Alive: timeout=99999999\r\n", b"\xff",
)  # fmt: skip
_QUESTIONS: Final = (
    RequestHead(b"GET", b"/", b"a", []),
    RequestHead(b"HEAD", b"/", b"a", []),
    RequestHead(b"GET", b"/", b"a", [], upgrade=b"websocket"),
)


class Transcript:
    """A sink that writes down what it hears, neighbouring data as one piece."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def on_informational_head(self, head: ResponseHead) -> None:
        """A 1xx response."""
        assert 100 <= head.status < 200
        self.lines.append(("informational", head.status, head.headers))

    def on_message_head(self, head: ResponseHead, end: bool) -> None:
        """The final response."""
        assert head.status == 101 or 200 <= head.status <= 999
        for name, value in head.headers:
            assert name == name.lower(), name
            assert not set(name + value) & {10, 13, 0}, (name, value)
        self.lines.append(("head", head.status, head.headers, head.length))
        if end:
            self.lines.append(("end", []))

    def on_message_data(self, data: bytes, end: bool) -> None:
        """Part of a body."""
        if data and self.lines and self.lines[-1][0] == "data":
            self.lines[-1] = ("data", self.lines[-1][1] + data)
        elif data:
            self.lines.append(("data", data))
        if end:
            self.lines.append(("end", []))

    def on_message_end(self, trailers: Headers) -> None:
        """The end that came by itself."""
        self.lines.append(("end", trailers))


def check(data: bytes) -> None:
    """As the answer to each question, in each way of cutting."""
    bytewise = [data[place : place + 1] for place in range(len(data))]
    for question in _QUESTIONS:
        whole = read(question, [data])
        assert read(question, bytewise) == whole, f"{question.method!r}: byte by byte is another transcript"
        assert read(question, split(Random(len(data)), data)) == whole, f"{question.method!r}: in pieces it is another"


def read(question: RequestHead, pieces: list[bytes]) -> list[tuple[Any, ...]]:
    """What the decoder tells, the end of the connection included, up to the first end."""
    heard = Transcript()
    decoder = ResponseDecoder(heard)
    decoder.expect(question)
    try:
        for piece in pieces:
            decoder.feed(piece)
        decoder.eof()
    except H1Error:
        heard.lines.append(("error",))
    ends = [place for place, line in enumerate(heard.lines) if line[0] == "end"]
    return heard.lines[: ends[0] + 1] if ends else heard.lines
