"""What a broken or hostile HTTP/1.1 server may say, and what the client gets of it.

Only the table; test_hostile_servers.py holds the sidecar to it.
"""

from typing import Final, NamedTuple

from tests.security.http1.scripted import Script

LINE: Final = b"HTTP/1.1 200 OK\r\n"
OK: Final = LINE + b"Content-Length: 2\r\n\r\nok"
TE: Final = LINE + b"Transfer-Encoding: chunked\r\n\r\n"
# What would be taken for the answer to somebody else's request.
SMUGGLED: Final = LINE + b"Content-Length: 8\r\n\r\nsmuggled"


class Hostile(NamedTuple):
    """What the server says to a request of `method`; the `status` and `body` that the client
    gets, None where the answer is broken off; whether the connection to the server is `kept`."""

    script: Script
    status: int = 502
    body: bytes | None = b""
    kept: bool = False
    method: bytes = b"GET"


def refused(answer: bytes, method: bytes = b"GET") -> Hostile:
    """No answer of HTTP/1.1: the client is told so."""
    return Hostile(Script(answer), method=method)


def told(answer: bytes, body: bytes = b"ok", status: int = 200, method: bytes = b"GET", kept: bool = False) -> Hostile:
    """An answer, and more than that: the client gets the answer."""
    return Hostile(Script(answer), status, body, kept, method)


def cut(answer: bytes) -> Hostile:
    """An answer that turns out to be none when the client has got a part of it."""
    return Hostile(Script(answer), 200, None)


TWICE: Final[dict[str, Hostile]] = {
    "two answers": told(OK + SMUGGLED),
    "two answers, the second to a HEAD": told(LINE + b"Content-Length: 2\r\n\r\n" + SMUGGLED, b"", method=b"HEAD"),
    "two answers, the first in chunks": told(TE + b"2\r\nok\r\n0\r\n\r\n" + SMUGGLED),
    "two answers, the first without a body": told(b"HTTP/1.1 204 No Content\r\n\r\n" + SMUGGLED, b"", 204),
    "an answer, and a 1xx": told(OK + b"HTTP/1.1 100 Continue\r\n\r\n"),
    "an answer, and the begin of another": told(OK + b"HTTP/1.1 2"),
    "a second answer while nothing is asked": Hostile(Script(OK, SMUGGLED), 200, b"ok"),
    "a byte while nothing is asked": Hostile(Script(OK, b"\r\n"), 200, b"ok"),
    "a 408 while nothing is asked": Hostile(
        Script(OK, b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", True), 200, b"ok"
    ),
}

BODIES: Final[dict[str, Hostile]] = {
    "a body to HEAD": told(OK, b"", method=b"HEAD"),
    "chunks to HEAD": told(TE + b"2\r\nok\r\n0\r\n\r\n", b"", method=b"HEAD"),
    "a body to HEAD without a length": told(LINE + b"\r\nok", b"", method=b"HEAD"),
    "an answer to HEAD": told(LINE + b"Content-Length: 2\r\n\r\n", b"", method=b"HEAD", kept=True),
    "chunks that are told to HEAD": told(TE, b"", method=b"HEAD", kept=True),
    "a body to 204": told(b"HTTP/1.1 204 No Content\r\n\r\nok", b"", 204),
    "a body of a length to 204": told(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", b"", 204),
    "chunks to 204": told(
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"", 204
    ),
    "a length to 204": told(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", b"", 204, kept=True),
    "a body to 304": told(b"HTTP/1.1 304 Not Modified\r\n\r\nok", b"", 304),
    "a body of a length to 304": told(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", b"", 304),
    "a length to 304": told(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", b"", 304, kept=True),
    "more than the length": told(LINE + b"Content-Length: 2\r\n\r\nok!"),
    "more than a length of 0": told(LINE + b"Content-Length: 0\r\n\r\nok", b""),
    "data behind Connection: close": told(LINE + b"Connection: close\r\nContent-Length: 2\r\n\r\nok" + SMUGGLED),
    "less than the length": Hostile(Script(LINE + b"Content-Length: 9\r\n\r\nok", ends=True), 200, None),
    "less than its chunks": Hostile(Script(TE + b"9\r\nok", ends=True), 200, None),
    "no last chunk": Hostile(Script(TE + b"2\r\nok\r\n", ends=True), 200, None),
    "chunks in HTTP/1.0": told(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "the end of the connection is the end of the body": Hostile(Script(LINE + b"\r\nok", ends=True), 200, b"ok"),
}

FRAMING: Final[dict[str, Hostile]] = {
    "length and chunks": refused(LINE + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunks and length": refused(LINE + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n"),
    "two lengths": refused(LINE + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!"),
    "a list of lengths": refused(LINE + b"Content-Length: 2,2\r\n\r\nok"),
    "a signed length": refused(LINE + b"Content-Length: +2\r\n\r\nok"),
    "a length in hex": refused(LINE + b"Content-Length: 0x2\r\n\r\nok"),
    "an endless length": refused(LINE + b"Content-Length: " + b"9" * 20 + b"\r\n\r\nok"),
    "gzip as a coding": refused(LINE + b"Transfer-Encoding: gzip\r\n\r\nok"),
    "gzip, chunked": refused(LINE + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "xchunked": refused(LINE + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    # llhttp does not know it, and would pass the chunks on as they are, to the end of the connection.
    "chunked, and a tab": refused(LINE + b"Transfer-Encoding: chunked\t\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    "chunked, a tab, and Connection: close": Hostile(
        Script(LINE + b"Connection: close\r\nTransfer-Encoding: chunked\t\r\n\r\n2\r\nok\r\n0\r\n\r\n", ends=True),
        200,
        None,
    ),
    "chunked, and a space": told(LINE + b"Transfer-Encoding: chunked \r\n\r\n2\r\nok\r\n0\r\n\r\n", kept=True),
    "two codings": refused(LINE + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n"),
    "a wrong chunk size": cut(TE + b"2\r\nok\r\nx\r\n"),
    "a space behind a chunk size": cut(TE + b"2\r\nok\r\n2 \r\nok\r\n0\r\n\r\n"),
    "wrong bytes behind a chunk": cut(TE + b"2\r\nokXX0\r\n\r\n"),
    "a bare LF behind a chunk": cut(TE + b"2\r\nok\n0\r\n\r\n"),
    "a long extension": told(TE + b"2;" + b"x" * 1100 + b"\r\nok\r\n0\r\n\r\n", kept=True),
    "an extension without end": cut(TE + b"2\r\nok\r\n2;" + b"x" * 800_000),
    "an extension": told(TE + b"2;a=b\r\nok\r\n0;c\r\n\r\n", kept=True),
    "trailers that tell a length": cut(TE + b"2\r\nok\r\n0\r\nContent-Length: 8\r\n\r\n"),
    "trailers without end": cut(TE + b"2\r\nok\r\n0\r\n" + b"X-T: 1\r\n" * 20_000),
    "trailers that route or authenticate": told(TE + b"2\r\nok\r\n0\r\nSet-Cookie: x\r\nHost: b\r\n\r\n", kept=True),
    "too large trailers": cut(TE + b"2\r\nok\r\n0\r\nX-T: " + b"x" * 100_000 + b"\r\n\r\n"),
    "too many trailers": cut(TE + b"2\r\nok\r\n0\r\n" + b"X-T: 1\r\n" * 300 + b"\r\n"),
    "trailers that say close": told(TE + b"2\r\nok\r\n0\r\nConnection: close\r\n\r\n"),
    "trailers that tell a coding": cut(TE + b"2\r\nok\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n"),
}

HEADS: Final[dict[str, Hostile]] = {
    "garbage": refused(b"garbage\r\n\r\n"),
    "another protocol": refused(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "a request": refused(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "HTTP/2.0": refused(b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "RTSP/1.0": refused(b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "RTSP/1.1": refused(b"RTSP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "ICE/1.1": refused(b"ICE/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "ICY": refused(b"ICY 200 OK\r\n\r\nok"),
    "RTSP/1.1 behind a 1xx": refused(b"HTTP/1.1 103 Early Hints\r\n\r\nRTSP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "a 1xx of RTSP": refused(b"RTSP/1.1 100 Continue\r\n\r\n" + OK),
    "two spaces before the status": refused(b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "frames of HTTP/2": refused(b"\0\0\0\4\0\0\0\0\0"),
    "a status of two digits": refused(b"HTTP/1.1 20 OK\r\n\r\n"),
    "a status of four digits": refused(b"HTTP/1.1 2000 OK\r\n\r\n"),
    "a status of 0": refused(b"HTTP/1.1 000 OK\r\n\r\n"),
    "a NUL in a value": refused(LINE + b"X-A: \0\r\nContent-Length: 2\r\n\r\nok"),
    "a bare CR in a value": refused(LINE + b"X-A: a\rX-B: b\r\nContent-Length: 2\r\n\r\nok"),
    "bare LF": refused(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    "a folded line": refused(LINE + b"X-A: a\r\n b\r\nContent-Length: 2\r\n\r\nok"),
    "a space before the colon": refused(LINE + b"X-A : a\r\nContent-Length: 2\r\n\r\nok"),
    "an empty name": refused(LINE + b": a\r\nContent-Length: 2\r\n\r\nok"),
    "a head without end, one field": refused(LINE + b"X-A: " + b"x" * 100_000),
    "a head without end, many fields": refused(LINE + b"X-A: b\r\n" * 20_000),
    "too many fields": refused(LINE + b"X-A: b\r\n" * 300 + b"Content-Length: 2\r\n\r\nok"),
    "nothing at all": Hostile(Script(b"", ends=True)),
    "half a head": Hostile(Script(LINE + b"Content-", ends=True)),
    "101 to a request that asked for nothing": refused(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    ),
    "32 heads of 1xx": told(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 32 + OK, kept=True),
    "33 heads of 1xx": refused(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 33 + OK),
    "a flood of 100": refused(b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000),
    "fields of this connection alone": told(
        LINE + b"Connection: x-a\r\nX-A: 1\r\nKeep-Alive: timeout=9\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
        kept=True,
    ),
}

TABLES: Final[dict[str, dict[str, Hostile]]] = {"twice": TWICE, "bodies": BODIES, "framing": FRAMING, "heads": HEADS}
ALL: Final[dict[str, Hostile]] = {
    f"{part}: {name}": case for part, rows in TABLES.items() for name, case in rows.items()
}
