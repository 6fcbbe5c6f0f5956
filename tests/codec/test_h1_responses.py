"""sidecar.codec.h1.ResponseDecoder: bytes from a server in, heads and bodies out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec import h1
from sidecar.model.head import RequestHead
from tests.codec.h1_transcripts import Entry, Transcript, cut, fed_until_refused, responses

OK = b"HTTP/1.1 200 OK\r\n"
GET: dict[str, Any] = {}
HEAD: dict[str, Any] = {"method": b"HEAD"}
EOF: dict[str, Any] = {"eof": True}
ASKED: dict[str, Any] = {"upgrade": b"websocket"}
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"

# Bytes, how they are asked for, what is told, whether the connection may be used again.
GOOD: dict[str, tuple[bytes, dict[str, Any], list[Entry], bool]] = {
    "length": (
        OK + b"Content-Length: 3\r\n\r\nabc",
        GET,
        [("head", 200, [(b"content-length", b"3")], 3), ("data", b"abc"), ("end",)],
        True,
    ),
    "no body": (
        OK + b"Content-Length: 0\r\n\r\n",
        GET,
        [("head", 200, [(b"content-length", b"0")], 0), ("end",)],
        True,
    ),
    "a large body is counted": (
        OK + b"Content-Length: 20000\r\n\r\n" + b"x" * 20000,
        GET,
        [("head", 200, [(b"content-length", b"20000")], 20000), ("data", b"x" * 20000), ("end",)],
        True,
    ),
    "chunked with trailers": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
        GET,
        [("head", 200, [], None), ("data", b"abc"), ("end", [(b"x-t", b"1")])],
        True,
    ),
    "until close": (OK + b"\r\nabc", EOF, [("head", 200, [], None), ("data", b"abc"), ("end",)], False),
    "nothing until close": (OK + b"\r\n", EOF, [("head", 200, [], None), ("end",)], False),
    "1.0 until close": (
        b"HTTP/1.0 200 OK\r\n\r\nabc",
        EOF,
        [("head", 200, [], None), ("data", b"abc"), ("end",)],
        False,
    ),
    "1.0 kept alive": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
        GET,
        [("head", 200, [(b"content-length", b"1")], 1), ("data", b"a"), ("end",)],
        True,
    ),
    "1.0 not kept alive": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
        GET,
        [("head", 200, [(b"content-length", b"1")], 1), ("data", b"a"), ("end",)],
        False,
    ),
    "chunks in 1.0 are not trusted with the connection": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GET,
        [("head", 200, [], None), ("end",)],
        False,
    ),
    "close": (
        OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na",
        GET,
        [("head", 200, [(b"content-length", b"1")], 1), ("data", b"a"), ("end",)],
        False,
    ),
    "close, and a large body": (
        OK + b"Connection: close\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20000,
        GET,
        [("head", 200, [(b"content-length", b"20000")], 20000), ("data", b"x" * 20000), ("end",)],
        False,
    ),
    "hop-by-hop fields": (
        OK + b"Connection: X-A, set-cookie, content-length\r\nX-A: 1\r\nSet-Cookie: s\r\nKeep-Alive: timeout=5\r\n"
        b"Upgrade: h2c\r\nProxy-Connection: x\r\nContent-Length: 0\r\n\r\n",
        GET,
        [("head", 200, [(b"content-length", b"0")], 0), ("end",)],
        True,
    ),
    "HEAD with a length": (
        OK + b"Content-Length: 3\r\n\r\n",
        HEAD,
        [("head", 200, [(b"content-length", b"3")], 3), ("end",)],
        True,
    ),
    "HEAD with no length to tell": (
        OK + b"Content-Length: 0\r\n\r\n",
        HEAD,
        [("head", 200, [(b"content-length", b"0")], 0), ("end",)],
        True,
    ),
    "HEAD of chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", HEAD, [("head", 200, [], 0), ("end",)], True),
    "HEAD without a word": (OK + b"\r\n", HEAD, [("head", 200, [], 0), ("end",)], False),
    "HEAD and 304": (b"HTTP/1.1 304 N\r\n\r\n", HEAD, [("head", 304, [], 0), ("end",)], True),
    "HEAD behind 1xx": (
        b"HTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + OK + b"Content-Length: 3\r\n\r\n",
        HEAD,
        [("1xx", 103, [(b"link", b"x")]), ("1xx", 102, []), ("head", 200, [(b"content-length", b"3")], 3), ("end",)],
        True,
    ),
    "100": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        GET,
        [("1xx", 100, []), ("head", 200, [(b"content-length", b"0")], 0), ("end",)],
        True,
    ),
    "1xx has no framing": (
        b"HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        GET,
        [("1xx", 103, []), ("head", 200, [(b"content-length", b"0")], 0), ("end",)],
        True,
    ),
    "204": (b"HTTP/1.1 204 N\r\n\r\n", GET, [("head", 204, [], 0), ("end",)], True),
    "204 has no framing": (
        b"HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n",
        GET,
        [("head", 204, [], 0), ("end",)],
        True,
    ),
    "304 tells a length": (
        b"HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n",
        GET,
        [("head", 304, [(b"content-length", b"5")], 5), ("end",)],
        True,
    ),
    "101": (SWITCH + b"\r\nraw", ASKED, [("head", 101, [(b"upgrade", b"websocket")], 0), ("data", b"raw")], False),
    "101 has no framing": (
        SWITCH + b"Content-Length: 1\r\n\r\nraw",
        ASKED,
        [("head", 101, [(b"upgrade", b"websocket")], 0), ("data", b"raw")],
        False,
    ),
    "101 and the end": (
        SWITCH + b"\r\nraw",
        {**ASKED, **EOF},
        [("head", 101, [(b"upgrade", b"websocket")], 0), ("data", b"raw"), ("end",)],
        False,
    ),
    "a refused upgrade": (
        b"HTTP/1.1 403 F\r\nContent-Length: 3\r\n\r\nabc",
        ASKED,
        [("head", 403, [(b"content-length", b"3")], 3), ("data", b"abc"), ("end",)],
        True,
    ),
    "no reason": (
        b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        GET,
        [("head", 200, [(b"content-length", b"0")], 0), ("end",)],
        True,
    ),
    "cut off in a length": (
        OK + b"Content-Length: 5\r\n\r\nabc",
        EOF,
        [("head", 200, [(b"content-length", b"5")], 5), ("data", b"abc"), ("cut off",)],
        False,
    ),
    "cut off in a chunk": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        EOF,
        [("head", 200, [], None), ("data", b"abc"), ("cut off",)],
        False,
    ),
    "cut off before the last chunk": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        EOF,
        [("head", 200, [], None), ("data", b"abc"), ("cut off",)],
        False,
    ),
    "cut off in the head": (b"HTTP/1.1 200 OK\r\nA: b", EOF, [("cut off",)], False),
}

BAD: dict[str, tuple[bytes, dict[str, Any]]] = {
    "garbage": (b"garbage\r\n\r\n", GET),
    "http/2.0": (b"HTTP/2.0 200 OK\r\n\r\n", GET),
    "status 99": (b"HTTP/1.1 099 X\r\n\r\n", GET),
    "status of four digits": (b"HTTP/1.1 1000 OK\r\n\r\n", GET),
    "bare LF": (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", GET),
    "length and chunks": (OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", GET),
    "two lengths": (OK + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", GET),
    "gzip, chunked": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", GET),
    "gzip": (OK + b"Transfer-Encoding: gzip\r\n\r\nabc", GET),
    "101 unasked": (SWITCH + b"\r\nraw", GET),
    "101 without its fields": (b"HTTP/1.1 101 S\r\n\r\n", ASKED),
    "too many fields": (OK + b"X: y\r\n" * 300 + b"\r\n", GET),
    "long fields": (OK + b"X: " + b"a" * 70000 + b"\r\n\r\n", GET),
}

# A complete answer, and bytes that nobody asked for.
LEFT_OVER: dict[str, tuple[bytes, dict[str, Any]]] = {
    "longer than its length": (OK + b"Content-Length: 1\r\n\r\nabc", GET),
    "a body to HEAD": (OK + b"Content-Length: 3\r\n\r\nabc", HEAD),
    "a body to HEAD without a word": (OK + b"\r\nabc", HEAD),
    "a body to HEAD behind 1xx": (b"HTTP/1.1 103 E\r\n\r\n" + OK + b"Content-Length: 3\r\n\r\nabc", HEAD),
    "chunks to HEAD": (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", HEAD),
    "chunks of a 204": (b"HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", GET),
    "bytes behind close": (OK + b"Connection: close\r\nContent-Length: 0\r\n\r\nHTTP", GET),
}


def ways(data: bytes) -> list[list[bytes]]:
    """In one piece, byte by byte, and in odd pieces."""
    return [[data], [data[i : i + 1] for i in range(len(data))], [data[i : i + 7] for i in range(0, len(data), 7)]]


@pytest.mark.parametrize("name", GOOD)
def test_responses(name: str) -> None:
    data, asked, told, reusable = GOOD[name]
    for pieces in ways(data):
        assert responses(pieces, **asked) == (told, reusable)


@given(st.sampled_from(sorted(GOOD)), st.lists(st.integers(0, 30000), max_size=12))
def test_any_cut_tells_the_same(name: str, places: list[int]) -> None:
    data, asked, told, reusable = GOOD[name]
    assert responses(cut(data, places), **asked) == (told, reusable)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_response(name: str) -> None:
    data, asked = BAD[name]
    for pieces in ways(data):
        assert responses(pieces, **asked) == ([("error",)], False)


@pytest.mark.parametrize("name", LEFT_OVER)
def test_what_nobody_asked_for_ends_the_connection_and_not_the_answer(name: str) -> None:
    data, asked = LEFT_OVER[name]
    for pieces in ways(data):
        told, reusable = responses(pieces, **asked)
        assert [entry[0] for entry in told if entry[0] != "1xx"] in (
            ["head", "end", "error"],
            ["head", "data", "end", "error"],
        )
        assert not reusable


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5), st.sampled_from([b"GET", b"HEAD"]))
def test_any_bytes_are_told_or_refused_and_nothing_else(data: bytes, places: list[int], method: bytes) -> None:
    responses(cut(data, places), method=method, eof=True)


@given(st.sampled_from(sorted(GOOD)), st.integers(0, 300), st.binary(min_size=1, max_size=3))
def test_any_damage_is_told_or_refused_and_nothing_else(name: str, place: int, damage: bytes) -> None:
    data, asked, _, _ = GOOD[name]
    responses([data[:place] + damage + data[place + len(damage) :]], **asked)


def test_one_decoder_reads_many_answers() -> None:
    sink = Transcript()
    decoder = h1.ResponseDecoder(sink)
    for method, data in (
        (b"GET", OK + b"Content-Length: 20000\r\n\r\n" + b"x" * 20000),
        (b"HEAD", OK + b"Content-Length: 9\r\n\r\n"),
        (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
        (b"GET", OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
        (b"HEAD", b"HTTP/1.1 304 N\r\n\r\n"),
        (b"GET", OK + b"Content-Length: 1\r\n\r\nb"),
    ):
        decoder.expect(RequestHead(method, b"/", b"a", []))
        for i in range(0, len(data), 1000):
            decoder.feed(data[i : i + 1000])
        assert sink.log[-1] == ("end",)
        assert decoder.between_messages
        assert decoder.keep_alive


def test_the_servers_idle_timeout_is_remembered() -> None:
    decoder = h1.ResponseDecoder(Transcript())
    decoder.expect(RequestHead(b"GET", b"/", b"a", []))
    assert decoder.idle_hint == 0
    decoder.feed(OK + b"Keep-Alive: timeout=15, max=100\r\nContent-Length: 0\r\n\r\n")
    assert decoder.idle_hint == 15


def test_whether_a_byte_of_the_answer_has_come() -> None:
    decoder = h1.ResponseDecoder(Transcript())
    decoder.expect(RequestHead(b"HEAD", b"/", b"a", []))
    assert decoder.untouched
    decoder.feed(b"H")
    assert not decoder.untouched
    assert not decoder.between_messages


def test_endless_fields_are_refused_before_they_end() -> None:
    decoder = h1.ResponseDecoder(Transcript())
    decoder.expect(RequestHead(b"GET", b"/", b"a", []))
    decoder.feed(OK + b"X: ")
    fed, _ = fed_until_refused(decoder, b"a" * 1000)
    assert fed <= h1.MAX_HEAD_BYTES
