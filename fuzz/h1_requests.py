"""Any bytes from an HTTP/1 client: requests, or H1Error with a status of 4xx or 5xx,
never anything else; and cut in any way, byte by byte too, they are the same requests.

What comes behind a request that ends its connection is nobody's: it is not compared.
"""

from random import Random
from typing import Any, Final

from fuzz.mutate import split
from sidecar.codec.h1 import H1Error, RequestDecoder
from sidecar.model.head import RequestHead
from sidecar.model.headers import Headers

_HEAD = b"GET /a?b=c HTTP/1.1\r\nHost: users.internal:8080\r\nAccept: */*\r\n\r\n"
SEEDS: Final = (
    _HEAD,
    _HEAD + b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + _HEAD,
    b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + _HEAD,
    b"POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n" + _HEAD,
    b"PUT / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
    b"GET http://a.example:80/x HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n",
    b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n\x16\x03\x01",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + _HEAD,
    b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n\x16\x03\x01\x00\x05hello",
    b"CONNECT users.internal:80 HTTP/1.1\r\nHost: x\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te, x-y\r\nX-Y: 1\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00" + _HEAD,
    b"POST /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi" + _HEAD,
    b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"1\r\na\r\n0\r\n\r\n",
    b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + b"x" * 6000,
)
WORDS: Final = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b": ", b"\r\n ", b"Host: b\r\n", b"Content-Length: 3\r\n",
    b"Content-Length: 3, 3\r\n", b"Content-Length: +3\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n",
    b"Connection: upgrade\r\n", b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\n", b"0\r\n\r\n",
    b"ffffffffffffffff\r\n", b"1;x=y\r\n", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1\r\n", b"GET ", b"CONNECT ", b"#", b"@",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"http://", b"\xff", b"\x7f",
)  # fmt: skip


class Transcript:
    """A sink that writes down what it hears, neighbouring data as one piece. `over` is
    whether a request has ended that was to be the last."""

    decoder: RequestDecoder

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.over = False

    def on_message_head(self, head: RequestHead, end: bool) -> None:
        """A request."""
        if self.over:
            return
        assert head.authority == b"" or b"@" not in head.authority
        for name, value in head.headers:
            assert name == name.lower(), name
            assert not set(name + value) & {10, 13, 0}, (name, value)
        self.lines.append(
            ("head", head.method, head.scheme, head.authority, head.path, head.headers, head.length, head.upgrade)
        )
        if end:
            self._end([])

    def on_message_data(self, data: bytes, end: bool) -> None:
        """Part of a body."""
        if self.over:
            return
        if data and self.lines and self.lines[-1][0] == "data":
            self.lines[-1] = ("data", self.lines[-1][1] + data)
        elif data:
            self.lines.append(("data", data))
        if end:
            self._end([])

    def on_message_end(self, trailers: Headers) -> None:
        """The end that came by itself."""
        if not self.over:
            self._end(trailers)

    def _end(self, trailers: Headers) -> None:
        self.lines.append(("end", trailers))
        self.over = not self.decoder.keep_alive


def check(data: bytes) -> None:
    """In one piece, byte by byte, and in random pieces."""
    whole = read([data])
    assert read([data[place : place + 1] for place in range(len(data))]) == whole, "byte by byte is another transcript"
    assert read(split(Random(len(data)), data)) == whole, "in pieces it is another transcript"


def read(pieces: list[bytes]) -> list[tuple[Any, ...]]:
    """What the decoder tells. Upgrades are refused, as they mostly are, once their bytes are read."""
    heard = Transcript()
    decoder = heard.decoder = RequestDecoder(heard)
    status = 0
    try:
        for piece in pieces:
            decoder.feed(piece)
            while decoder.holding:
                decoder.refused()
    except H1Error as error:
        status = error.status
        if not heard.over:
            heard.lines.append(("error",))
    assert status == 0 or 400 <= status < 600, status
    return heard.lines
