"""Any frames from an HTTP/2 server, in answer to what an honest client asks: no exception
gets out, every request is answered or ended, everything is given back. Byte by byte too.
"""

from random import Random
from struct import pack
from typing import Final

import ngh2

from fuzz import h2_server
from fuzz.h2_server import WORDS as _WORDS
from fuzz.stage import MARK, play

_ASKED: Final = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
_CALLED: Final = (
    b"POST /pkg.Users/Get HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
)


def _answers(*answers: tuple[bytes, bytes | None, bool]) -> bytes:
    """What a server says to the requests with odd numbers: settings, then each (status, body, trailers)."""
    client, server = ngh2.Connection(ngh2.Role.CLIENT), ngh2.Connection(ngh2.Role.SERVER)
    client.initiate_connection()
    server.initiate_connection()
    head = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]
    for status, body, trailers in answers:
        stream_id = client.send_request(head, end_stream=True)
        server.receive_data(client.data_to_send())
        server.send_response(stream_id, [(b":status", status)], end_stream=body is None)
        if body is not None:
            server.send_data(stream_id, body, end_stream=not trailers)
            if trailers:
                server.send_trailers(stream_id, [(b"grpc-status", b"14")])
    return bytes(server.data_to_send())


def _reset(stream_id: int, code: int) -> bytes:
    return pack(">I", 4)[1:] + pack(">BBII", 3, 0, stream_id, code)


_SERVED = _answers((b"200", b"hello", False))
_REFUSED = _answers() + _reset(1, 7)
SEEDS: Final = (
    _SERVED,
    _answers((b"503", None, False), (b"200", b"x" * 3000, True)),
    _answers((b"204", None, False), (b"304", None, False)),
    _REFUSED,
    _REFUSED + MARK + _SERVED,
    _answers() + pack(">I", 8)[1:] + pack(">BBIII", 7, 0, 0, 0, 0),
    _SERVED + _reset(1, 0) + _reset(3, 8),
)
WORDS: Final = (*_WORDS, MARK, MARK + MARK, _reset(1, 7), _reset(3, 0))


def draw(rng: Random) -> bytes:
    """Frames of one or two servers, changed."""
    return h2_server.drawn(rng, SEEDS, WORDS)


def check(data: bytes) -> None:
    """Each part of the data is one read of what an endpoint said."""
    said = data.replace(MARK, MARK + MARK)
    play(_ASKED + MARK + said, protocol="http2")
    play(_CALLED + MARK + said, protocol="http2")
    play(_ASKED + MARK + said, protocol="http2", bytewise=True)
