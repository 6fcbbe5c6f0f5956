"""sidecar.codec.h1: heads to bytes. What is written is read back by the decoders too."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.codec import h1
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers
from tests.codec.h1_transcripts import requests, responses


def request(method: bytes = b"GET", headers: Headers | None = None, length: int | None = 0) -> RequestHead:
    return RequestHead(method, b"/p", b"a:80", headers or [], length=length)


@pytest.mark.parametrize(
    ("head", "end", "fields", "chunked"),
    [
        (request(), True, b"", False),
        (request(b"DELETE"), True, b"", False),
        (request(b"POST"), True, b"content-length: 0\r\n", False),
        (request(b"POST", [(b"content-length", b"0")]), True, b"content-length: 0\r\n", False),
        (request(b"POST", [(b"content-length", b"3")], 3), False, b"content-length: 3\r\n", False),
        (request(b"POST", length=None), False, b"transfer-encoding: chunked\r\n", True),
        (request(b"GET", length=None), False, b"transfer-encoding: chunked\r\n", True),
        (request(b"GET", [(b"te", b"trailers")]), True, b"te: trailers\r\nconnection: te\r\n", False),
        (request(b"GET", [(b"x-te", b"y")]), True, b"x-te: y\r\n", False),
    ],
)
def test_request_heads(head: RequestHead, end: bool, fields: bytes, chunked: bool) -> None:
    data = b"%b /p HTTP/1.1\r\nhost: a:80\r\n%b\r\n" % (head.method, fields)
    assert h1.encode_request(head, end) == (data, chunked)


def test_an_upgrade_is_asked_for_in_its_own_words() -> None:
    data, chunked = h1.encode_request(RequestHead(b"GET", b"/", b"a", [], upgrade=b"websocket"), False)
    assert data == b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    assert not chunked


@pytest.mark.parametrize(
    ("head", "end", "chunkable", "connection", "fields", "chunked"),
    [
        (ResponseHead(200, [], None), True, True, b"", b"content-length: 0\r\n", False),
        (ResponseHead(200, [(b"content-length", b"3")], 3), False, True, b"", b"content-length: 3\r\n", False),
        (ResponseHead(200, [(b"content-length", b"3")], 3), True, True, b"", b"content-length: 3\r\n", False),
        (ResponseHead(200, [], None), False, True, b"", b"transfer-encoding: chunked\r\n", True),
        (ResponseHead(200, [], None), False, False, b"close", b"connection: close\r\n", False),
        (ResponseHead(204, [], None), True, True, b"", b"", False),
        (ResponseHead(304, [], None), True, True, b"", b"", False),
        (ResponseHead(103, [(b"link", b"x")], None), True, True, b"", b"link: x\r\n", False),
        (ResponseHead(200, [], 0), True, True, b"keep-alive", b"connection: keep-alive\r\n", False),
    ],
)
def test_response_heads(
    head: ResponseHead, end: bool, chunkable: bool, connection: bytes, fields: bytes, chunked: bool
) -> None:
    data, is_chunked = h1.encode_response(head, end, chunkable, connection)
    line, rest = data.split(b"\r\n", 1)
    assert line.startswith(b"HTTP/1.1 %d " % head.status)
    assert rest == fields + b"\r\n"
    assert is_chunked is chunked


def test_trailers_end_a_chunked_body() -> None:
    assert h1.encode_trailers([(b"x", b"1"), (b"y", b"2")]) == b"0\r\nx: 1\r\ny: 2\r\n\r\n"


names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12).map(
    lambda name: b"x-" + name.encode()
)
values = st.text("".join(map(chr, range(33, 127))), max_size=30).map(str.encode)
fields = st.lists(st.tuples(names, values), max_size=8)


@given(fields, st.sampled_from([b"GET", b"POST", b"PUT"]))
def test_a_request_is_read_as_it_was_written(headers: Headers, method: bytes) -> None:
    head = RequestHead(method, b"/p?q", b"a", headers, length=None)
    data, _ = h1.encode_request(head, False)
    trailers = h1.encode_trailers([(b"x-t", b"1")])
    assert requests([data + b"3\r\nabc\r\n" + trailers]) == [
        ("head", method, b"/p?q", b"a", headers, None),
        ("data", b"abc"),
        ("end", [(b"x-t", b"1")]),
    ]


@given(fields, st.integers(200, 599).filter(lambda status: status not in (204, 304)))
def test_a_response_is_read_as_it_was_written(headers: Headers, status: int) -> None:
    data, _ = h1.encode_response(ResponseHead(status, headers, None), False, True, b"")
    told, reusable = responses([data + b"3\r\nabc\r\n" + h1.encode_trailers([])])
    assert told == [("head", status, headers, None), ("data", b"abc"), ("end",)]
    assert reusable
