"""Any bytes from both sides of a tunnel, and of what was to become one: an upgrade, a
WebSocket's frames, a CONNECT to a route's host or to another, and what is sniffed inside.
No exception gets out; everything is given back.

The first byte chooses how the tunnel is asked for; a MARK ends what one side says.
"""

from typing import Final

from fuzz import h1_requests, h2_server
from fuzz.stage import MARK, play

_UPGRADE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_CONNECT: Final = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"
_ELSEWHERE: Final = b"CONNECT x.example:443 HTTP/1.1\r\nHost: x.example:443\r\n\r\n"
_OPENINGS: Final = ((_UPGRADE, "http"), (_CONNECT, "forward"), (_ELSEWHERE, "forward"), (_CONNECT, "http"))
_YES: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
_NO: Final = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno"
_TEXT: Final = b"\x81\x85\x01\x02\x03\x04ignmn"
_BYE: Final = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
_GET: Final = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SEEDS: Final = (
    b"\0" + MARK + _YES + MARK + _TEXT + MARK + b"\x81\x05hello" + MARK + _BYE + MARK + b"\x88\x02\x03\xe8",
    b"\0" + _TEXT + MARK + _NO + MARK + _GET + MARK + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"\0" + MARK + _YES + b"\x81\x02hi" + MARK + MARK + MARK,
    b"\1\x16\x03\x01\x00\x05hello" + MARK + b"\x16\x03\x03\x00\x02hi" + MARK + MARK,
    b"\1" + _GET + MARK + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"\1" + h2_server.PREFACE + h2_server.SEEDS[0] + MARK + _NO,
    b"\2\x16\x03\x01" + MARK + b"hi" + MARK + MARK,
    b"\3" + _GET + MARK + _NO,
)
WORDS: Final = (*h1_requests.WORDS, MARK, MARK + MARK, _YES, _NO, _TEXT, _BYE, b"\x16\x03", b"101", b"PRI")


def check(data: bytes) -> None:
    """One play, and the same with reads of one byte."""
    opening, mode = _OPENINGS[(data[0] if data else 0) % len(_OPENINGS)]
    whole, bytewise = (play(opening + data[1:], mode=mode, bytewise=bytewise) for bytewise in (False, True))
    if opening == _ELSEWHERE:  # in others there may be HTTP, whose frames and chunks come as the reads do
        assert bytewise.client == whole.client, "byte by byte the client hears something else"
    assert bytewise.endpoints == whole.endpoints, "byte by byte the endpoints hear something else"
