"""sidecar.codec.h1.RequestDecoder: bytes from a client in, heads and bodies out (RFC 9112)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec import h1
from tests.codec.h1_transcripts import Entry, Transcript, cut, fed_until_refused, requests

HOST = b"Host: a\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
NEXT_TOLD: list[Entry] = [("head", b"GET", b"/next", b"a", [], 0), ("end",)]

GOOD: dict[str, tuple[bytes, list[Entry]]] = {
    "get": (b"GET /p?q HTTP/1.1\r\nHost: a:80\r\n\r\n", [("head", b"GET", b"/p?q", b"a:80", [], 0), ("end",)]),
    "names are lower-cased, values trimmed": (
        b"GET / HTTP/1.1\r\n" + HOST + b"X-Y: \t a\t b \t\r\nZ:\r\n\r\n",
        [("head", b"GET", b"/", b"a", [(b"x-y", b"a\t b"), (b"z", b"")], 0), ("end",)],
    ),
    "1.0 without a host": (b"GET / HTTP/1.0\r\n\r\n", [("head", b"GET", b"/", b"", [], 0), ("end",)]),
    "an empty host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", [("head", b"GET", b"/", b"", [], 0), ("end",)]),
    "ipv6": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", [("head", b"GET", b"/", b"[::1]:80", [], 0), ("end",)]),
    "absolute-form wins over host": (
        b"GET http://b:81/p?q HTTP/1.1\r\n" + HOST + b"\r\n",
        [("head", b"GET", b"/p?q", b"b:81", [], 0), ("end",)],
    ),
    "absolute-form without a path": (
        b"GET http://b?q HTTP/1.1\r\n" + HOST + b"\r\n",
        [("head", b"GET", b"/?q", b"b", [], 0), ("end",)],
    ),
    "asterisk-form": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", [("head", b"OPTIONS", b"*", b"a", [], 0), ("end",)]),
    "a length of nothing": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
        [("head", b"POST", b"/", b"a", [(b"content-length", b"0")], 0), ("end",)],
    ),
    "pipelined, with bodies": (
        b"\r\n" + NEXT + b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc" + NEXT,
        [
            *NEXT_TOLD,
            ("head", b"POST", b"/", b"a", [(b"content-length", b"3")], 3),
            ("data", b"abc"),
            ("end",),
            *NEXT_TOLD,
        ],
    ),
    "chunked with trailers": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\nTrailer: x-t\r\n\r\n"
        b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nX-T: 1\r\nX-U: 2\r\n\r\n" + NEXT,
        [
            ("head", b"POST", b"/", b"a", [(b"trailer", b"x-t")], None),
            ("data", b"abc0123456789"),
            ("end", [(b"x-t", b"1"), (b"x-u", b"2")]),
            *NEXT_TOLD,
        ],
    ),
    "a large body is counted": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 20000\r\n\r\n" + b"x" * 20000 + NEXT,
        [
            ("head", b"POST", b"/", b"a", [(b"content-length", b"20000")], 20000),
            ("data", b"x" * 20000),
            ("end",),
            *NEXT_TOLD,
        ],
    ),
    "hop-by-hop fields": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: X-A, authorization, te, keep-alive\r\nX-A: 1\r\nX-B: 2\r\n"
        b"Authorization: z\r\nTE: gzip, Trailers\r\nKeep-Alive: 5\r\nProxy-Connection: z\r\n"
        b"Proxy-Authorization: q\r\n\r\n",
        [
            ("head", b"GET", b"/", b"a", [(b"x-b", b"2"), (b"authorization", b"z"), (b"te", b"trailers")], 0),
            ("end",),
        ],
    ),
    "te without trailers is dropped": (
        b"GET / HTTP/1.1\r\n" + HOST + b"TE: gzip\r\nConnection: te\r\n\r\n",
        [("head", b"GET", b"/", b"a", [], 0), ("end",)],
    ),
    "an upgrade waits for its answer": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nraw" + NEXT,
        [("head", b"GET", b"/", b"a", [], 0, b"websocket")],
    ),
    "h2c is taken off a list": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n\r\nraw",
        [("head", b"GET", b"/", b"a", [], 0, b"websocket")],
    ),
    "h2c is stripped": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AA\r\n\r\n" + NEXT,
        [("head", b"GET", b"/", b"a", [], 0), ("end",), *NEXT_TOLD],
    ),
    "h2c is stripped off a body with a length": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc" + NEXT,
        [("head", b"POST", b"/", b"a", [(b"content-length", b"3")], 3), ("data", b"abc"), ("end",), *NEXT_TOLD],
    ),
    "h2c is stripped off a chunked body": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n" + NEXT,
        [
            ("head", b"POST", b"/", b"a", [], None),
            ("data", b"abc"),
            ("end", [(b"x-t", b"1")]),
            *NEXT_TOLD,
        ],
    ),
    "an upgrade with a body does not pass": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
        [("head", b"POST", b"/", b"a", [(b"content-length", b"3")], 3), ("data", b"abc"), ("end",)],
    ),
    "1.0 has no upgrade": (
        b"GET / HTTP/1.0\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        [("head", b"GET", b"/", b"a", [], 0), ("end",)],
    ),
    "upgrade that Connection does not name": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\n\r\n" + NEXT,
        [("head", b"GET", b"/", b"a", [], 0), ("end",), *NEXT_TOLD],
    ),
    "connect": (
        b"CONNECT b:443 HTTP/1.1\r\n" + HOST + b"\r\n\x16\x03raw",
        [("head", b"CONNECT", b"", b"b:443", [], 0)],
    ),
}

BAD: dict[str, tuple[bytes, int]] = {
    "garbage": (b"hello\r\n\r\n", 400),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "lower-case method": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "http/0.9": (b"GET /\r\n\r\n", 400),
    "http/2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 400),
    "http/1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "no host beside absolute-form": (b"GET http://b/ HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "host with a space": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "host with user information": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    "host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "absolute-form with user information": (b"GET http://u@b/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "absolute-form of another scheme": (b"GET ftp://b/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "absolute-form without a host": (b"GET http:///p HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "GET of *": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "length and chunks": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    "chunks and length": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        400,
    ),
    "two lengths": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "a list of lengths": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "signed length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +3\r\n\r\nabc", 400),
    "endless length": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 19 + b"\r\n\r\nabc", 400),
    "gzip, chunked": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked, gzip": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "xchunked": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "identity": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: identity\r\n\r\n", 400),
    "chunked twice": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n", 400),
    "chunked behind a vertical tab": (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "obs-fold": (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n", 400),
    "no name": (b"GET / HTTP/1.1\r\n" + HOST + b": b\r\n\r\n", 400),
    "bare LF in the line": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "bare LF behind a field": (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    "bare CR in a value": (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\rz\r\n\r\n", 400),
    "NUL in a value": (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\0z\r\n\r\n", 400),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "8 bits in the target": (b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "CONNECT without a port": (b"CONNECT b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "CONNECT with a length": (b"CONNECT b:443 HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", 400),
    "CONNECT with chunks": (b"CONNECT b:443 HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "long target": (b"GET /" + b"a" * 17000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "one long field": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70000 + b"\r\n\r\n", 431),
    "many long fields": (b"GET / HTTP/1.1\r\n" + HOST + (b"X: " + b"a" * 1000 + b"\r\n") * 70 + b"\r\n", 431),
    "too many fields": (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 300 + b"\r\n", 431),
}

# What is found wrong only after a head was told.
BAD_BODIES: dict[str, bytes] = {
    "no chunk size": b"zz\r\n",
    "endless chunk size": b"f" * 20 + b"\r\n",
    "bare LF behind a chunk size": b"3\nabc\r\n0\r\n\r\n",
    "no CRLF behind a chunk": b"3\r\nabcd\r\n0\r\n\r\n",
    "a length among the trailers": b"0\r\nContent-Length: 5\r\n\r\n",
    "trailer with a space before the colon": b"0\r\nX : y\r\n\r\n",
}


def ways(data: bytes) -> list[list[bytes]]:
    """In one piece, byte by byte, and in odd pieces."""
    return [[data], [data[i : i + 1] for i in range(len(data))], [data[i : i + 7] for i in range(0, len(data), 7)]]


@pytest.mark.parametrize("name", GOOD)
def test_requests(name: str) -> None:
    data, told = GOOD[name]
    for pieces in ways(data):
        assert requests(pieces) == told


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_request(name: str) -> None:
    data, status = BAD[name]
    for pieces in ways(data):
        assert requests(pieces) == [("error", status)]


@pytest.mark.parametrize("name", BAD_BODIES)
def test_broken_bodies(name: str) -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    for pieces in ways(head + BAD_BODIES[name]):
        told = requests(pieces)
        assert told[-1] == ("error", 400)
        assert ("end",) not in told


@given(st.sampled_from(sorted(GOOD)), st.lists(st.integers(0, 30000), max_size=12))
def test_any_cut_tells_the_same(name: str, places: list[int]) -> None:
    data, told = GOOD[name]
    assert requests(cut(data, places)) == told


@given(st.lists(st.sampled_from(sorted(GOOD)), min_size=1, max_size=4), st.lists(st.integers(0, 70000), max_size=9))
def test_any_row_of_requests_is_told_in_order(names: list[str], places: list[int]) -> None:
    closing = {"1.0 without a host", "1.0 has no upgrade", "connect"}
    names = [name for name in names if name not in closing and len(GOOD[name][1][0]) == 6]
    data = b"".join(GOOD[name][0] for name in names)
    assert requests(cut(data, places)) == [entry for name in names for entry in GOOD[name][1]]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_are_told_or_refused_and_nothing_else(data: bytes, places: list[int]) -> None:
    told = requests(cut(data, places))
    assert all(entry[0] in ("head", "data", "end", "error") for entry in told)


@given(st.sampled_from(sorted(GOOD)), st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_any_damage_is_told_or_refused_and_nothing_else(name: str, place: int, damage: bytes) -> None:
    data = GOOD[name][0]
    requests([data[:place] + damage + data[place + len(damage) :]])


@pytest.mark.parametrize("piece", [100, 5000])
def test_an_endless_field_is_refused_before_it_ends(piece: int) -> None:
    decoder = h1.RequestDecoder(Transcript())
    decoder.feed(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    fed, status = fed_until_refused(decoder, b"a" * piece)
    assert status == 431
    assert fed <= h1.MAX_HEAD_BYTES


@pytest.mark.parametrize(
    ("start", "more", "expected", "most"),
    [
        (b"0\r\nX: ", b"a" * 1000, 431, h1.MAX_HEAD_BYTES),
        (b"0\r\n", b"X: " + b"a" * 1000 + b"\r\n", 431, h1.MAX_HEAD_BYTES),
        (b"3;x=", b"y" * 100, 400, h1.MAX_EXTENSION_BYTES),
    ],
    ids=["one trailer", "many trailers", "a chunk extension"],
)
def test_nothing_behind_a_body_is_endless(start: bytes, more: bytes, expected: int, most: int) -> None:
    decoder = h1.RequestDecoder(Transcript())
    decoder.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + start)
    fed, status = fed_until_refused(decoder, more)
    assert status == expected
    assert fed <= most


def test_a_chunked_body_may_be_endless() -> None:
    sink = Transcript()
    decoder = h1.RequestDecoder(sink)
    decoder.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(300):
        decoder.feed(b"3e8\r\n" + b"a" * 1000 + b"\r\n")
    assert len(sink.log[-1][1]) == 300_000


def test_many_requests_may_come_in_one_read() -> None:
    assert requests([NEXT * 3000]) == NEXT_TOLD * 3000


def test_garbage_behind_a_stripped_upgrade() -> None:
    data, told = GOOD["h2c is stripped off a body with a length"]
    assert requests([data + b"GET / HTTP/1.1\r\n\r\n"]) == [*told, ("error", 400)]


def test_many_stripped_upgrades_may_come_in_one_read() -> None:
    one = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert len(requests([one * 1500])) == 3000


@pytest.mark.parametrize(
    ("line", "fields", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: Foo, Close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
    ],
)
def test_whether_another_request_may_follow(line: bytes, fields: bytes, kept: bool) -> None:
    decoder = h1.RequestDecoder(Transcript())
    decoder.feed(b"GET / HTTP/" + line + b"\r\nHost: a\r\n" + fields + b"\r\n")
    assert decoder.keep_alive is kept
    assert decoder.version == line.decode()


def test_nothing_may_follow_a_request_that_said_close() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + NEXT
    assert requests([data])[-1] == ("error", 400)
    large = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 20000\r\n\r\n"
    assert requests([large, b"x" * 20000 + NEXT])[-1] == ("error", 400)


UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("pieces", [[UPGRADE + b"raw"], [UPGRADE, b"r", b"aw"]])
def test_after_a_101_everything_is_data(pieces: list[bytes]) -> None:
    sink = Transcript()
    decoder = h1.RequestDecoder(sink)
    for piece in pieces:
        decoder.feed(piece)
    assert decoder.holding
    assert [entry[0] for entry in sink.log] == ["head"]
    decoder.upgraded()
    decoder.feed(NEXT)
    assert sink.log[1:] == [("data", b"raw" + NEXT)]
    assert not decoder.holding


@pytest.mark.parametrize("pieces", [[UPGRADE + NEXT + NEXT], [UPGRADE, NEXT[:9], NEXT[9:] + NEXT]])
def test_behind_a_refused_upgrade_comes_the_next_request(pieces: list[bytes]) -> None:
    sink = Transcript()
    decoder = h1.RequestDecoder(sink)
    for piece in pieces:
        decoder.feed(piece)
    decoder.refused()
    decoder.feed(NEXT)
    assert sink.log[1:] == NEXT_TOLD * 3


def test_what_comes_before_the_answer_to_an_upgrade_is_bounded() -> None:
    decoder = h1.RequestDecoder(Transcript())
    decoder.feed(UPGRADE)
    fed, status = fed_until_refused(decoder, b"x" * 1000)
    assert status == 400
    assert fed <= h1.MAX_HEAD_BYTES


def test_the_bytes_behind_a_connect_can_be_taken_over() -> None:
    decoder = h1.RequestDecoder(Transcript())
    decoder.feed(b"CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\nab")
    decoder.feed(b"c")
    assert decoder.take_held() == b"abc"
    assert decoder.take_held() == b""


# Start lines (RFC 9112 3), wherever in a read they stand.

POST_5 = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello"
CHUNKED_1 = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
# Bytes of a body that look like the line that would be right.
DECOY = b"\r\n\r\n" + NEXT
POST_DECOY = b"POST / HTTP/1.1\r\n" + HOST + b"content-length:%d\r\n\r\n" % len(DECOY) + DECOY


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"\r\n",
        NEXT,
        NEXT + NEXT,
        POST_5,
        CHUNKED_1,
        POST_DECOY,
        POST_DECOY + NEXT,
        b"\r\n" + POST_DECOY + b"\r\n\r\n",
    ],
    ids=["alone", "a blank", "one", "two", "a body", "chunks", "a decoy", "a decoy and one", "blanks around"],
)
@pytest.mark.parametrize(
    "line",
    [
        b"GET  /next HTTP/1.1",
        b"GET /next  HTTP/1.1",
        b"GET /next RTSP/1.1",
        b"GET  /nex HTTP/1.1",
        b"SOURCE /next ICE/1.1",
    ],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_start_line_that_is_not_as_it_should(before: bytes, line: bytes, step: int) -> None:
    whole = before + line + b"\r\n" + HOST + b"\r\n" + NEXT
    pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    told = requests(pieces)
    assert told[-1] == ("error", 400)
    assert [entry for entry in told if entry[0] == "head"] == [
        entry for entry in requests([before]) if entry[0] == "head"
    ]


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_start_lines_that_are(step: int) -> None:
    whole = b"\r\n" + POST_DECOY + NEXT + b"\r\n" + POST_5 + CHUNKED_1 + NEXT
    pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    heads = [entry[1:3] for entry in requests(pieces) if entry[0] == "head"]
    assert heads == [(b"POST", b"/"), (b"GET", b"/next"), (b"POST", b"/"), (b"POST", b"/"), (b"GET", b"/next")]
