"""Any bytes as header lists and trailers of an HTTP/2 peer, of a client or of a server: a head, or
a protocol error, and byte by byte the same. What is let in

- goes on over HTTP/1.1 as one message of the same meaning, in which h11 and our own decoder read
  the same fields and nothing more, or is refused for a target that HTTP/1.1 has not;
- comes from there back to HTTP/2, and from HTTP/2 to HTTP/2, as it was.

The first byte chooses: odd, a server speaks; its second bit, to HEAD; its third, the head is not
the end. A MARK ends a field, GAP the name in it, and an empty field the head.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, Final

import h11

from fuzz.h1_requests import Transcript as Asked
from fuzz.h1_responses import Transcript as Answered
from fuzz.mutate import mutated
from fuzz.stage import MARK
from sidecar.codec import h1, h2
from sidecar.codec.fields import HOP_BY_HOP, fit_for_trailers
from sidecar.codec.h1.limits import MAX_DIGITS
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Header, Headers

GAP: Final = b"\xf7"
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS: Final = b"\0\0\0\4\0\0\0\0\0"
GET: Final = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a?b=c"), (b":authority", b"a.example:80"))
_CALL: Final = ((b":method", b"POST"), *GET[1:], (b"te", b"trailers"), (b"content-type", b"application/grpc"))
_SEEN: Final = ((b":status", b"200"), (b"content-type", b"text/plain"))
_LONGEST_BODY: Final = 4096


def said(first: int, *sections: Sequence[Header]) -> bytes:
    """The input that makes a peer say these sections: a head, and perhaps trailers."""
    return bytes([first]) + (MARK + MARK).join(
        MARK.join(name + GAP + value for name, value in each) for each in sections
    )


SEEDS: Final = (
    said(0, GET),
    said(0, (*GET, (b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2"), (b"x", b"z"), (b"x-empty", b""))),
    said(4, (*GET[1:], (b":method", b"PUT"), (b"content-length", b"5"))),
    said(4, _CALL, [(b"x-checksum", b"1"), (b"x-forwarded-for", b"1")]),
    said(0, (GET[0], GET[1], GET[2], (b"host", b"a.example:80"))),
    said(4, [(b":method", b"CONNECT"), (b":authority", b"a.example:443")]),
    said(0, [(b":method", b"OPTIONS"), GET[1], (b":path", b"*"), GET[3]]),
    said(0, (*GET[:2], (b":path", b"/\xc3\xa9#f"), GET[3])),
    said(0, (*GET, (b"http2-settings", b"AAA"), (b"proxy-authorization", b"x"), (b"te", b"trailers"))),
    said(5, _SEEN, [(b"grpc-status", b"0")]),
    said(1, ((b":status", b"503"), (b"retry-after", b"1"), (b"content-length", b"0"))),
    said(3, ((b":status", b"200"), (b"content-length", b"77"))),
    said(1, [(b":status", b"304"), (b"etag", b'"x"')]),
    said(5, [(b":status", b"204")]),
    said(5, [(b":status", b"103"), (b"link", b"</a>")]),
)
_NAMES: Final = (
    b":method", b":path", b":authority", b":scheme", b":status", b":protocol", b"host", b"cookie", b"te", b"x",
    b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"keep-alive", b"trailer", b"grpc-timeout",
    b"content-type", b"http2-settings", b"proxy-connection", b"x-forwarded-for", b"expect", b"X", b"", b"a b", b"a:",
)  # fmt: skip
_VALUES: Final = (
    b"", b"GET", b"HEAD", b"CONNECT", b"OPTIONS", b"G T", b"/", b"*", b"/a b", b"/#", b"/\xff", b"a", b"a@b", b"b:80",
    b"https", b"trailers", b"gzip", b"0", b"5", b"+5", b"5,5", b"99999999999999999999", b"chunked", b"close", b"200",
    b"100", b"101", b"204", b"304", b"999", b"099", b"1000", b"x\r\ny: z", b"x\n", b"\0", b" x", b"x\t", b"1S",
    b"100-continue", b"application/grpc",
)  # fmt: skip
_USUAL: Final = (
    (b"cookie", b"a=1"), (b"cookie", b""), (b"cookie", b"b"), (b"x", b"\xc3\xa9"), (b"x", b"1"), (b"te", b"trailers"),
    (b"host", b"a.example:80"), (b"host", b"A.example:80"), (b"content-length", b"0"), (b"content-length", b"5"),
    (b"content-type", b"application/grpc"), (b"grpc-timeout", b"1S"), (b"expect", b"100-continue"), (b"", b""),
    (b"http2-settings", b"AAA"), (b"proxy-authorization", b"x"), (b"trailer", b"x"), (b"set-cookie", b"a"),
    (b"!#$%", b""),
)  # fmt: skip
WORDS: Final = (*(MARK + name + GAP for name in _NAMES), *_VALUES, MARK + MARK, MARK, GAP, b"\r\n", b"\0")


def draw(rng: Random) -> bytes:
    """A list of one of the seeds with other fields in it, or changed as bytes."""
    seed = rng.choice(SEEDS)
    if rng.random() < 0.3:
        return mutated(rng, SEEDS, WORDS)
    fields = seed[1:].split(MARK)
    for _ in range(1 + rng.randrange(3)):
        place = rng.randrange(len(fields) + 1)
        if rng.random() < 0.6:
            fields.insert(len(fields) if rng.random() < 0.8 else place, GAP.join(rng.choice(_USUAL)))
        elif place < len(fields):
            fields[place] = fields[place].partition(GAP)[0] + GAP + rng.choice(_VALUES)
        else:
            fields.append(rng.choice(_NAMES) + GAP + rng.choice(_VALUES))
    if rng.random() < 0.1:
        rng.shuffle(fields)
    return bytes([seed[0] ^ (rng.randrange(4) << 1 if rng.random() < 0.3 else 0)]) + MARK.join(fields)


def check(data: bytes) -> None:
    """One message, whole and byte by byte."""
    chosen = data[0] if data else 0
    fields = [(name, value) for name, _, value in (field.partition(GAP) for field in data[1:].split(MARK))]
    sections = _sections(fields)
    frames = _frames(sections, open_end=bool(chosen & 4))
    hear = _heard_of_server if chosen & 1 else _heard_of_client
    method = b"HEAD" if chosen & 2 else b"GET"
    heard = hear([frames], method)
    assert hear([frames[place : place + 1] for place in range(len(frames))], method) == heard, "byte by byte"
    for kind, headers, end in heard:
        if kind == "request":
            _check_request(headers, end)
        elif kind == "response":
            _check_response(headers, end, method)
        elif kind == "informational":
            _check_informational(headers)
        elif kind == "trailers":
            _check_trailers(list(headers))


def _sections(fields: Headers) -> list[Headers]:
    """Head and trailers, at the first empty field."""
    if (b"", b"") not in fields:
        return [fields]
    place = fields.index((b"", b""))
    return [fields[:place], fields[place + 1 :]]


# HTTP/2, to and from bytes.


def _frames(sections: list[Headers], open_end: bool) -> bytes:
    """HEADERS on stream 1 for each section, the last of which ends the stream unless told otherwise."""
    out = b""
    for number, section in enumerate(sections, 1):
        block = b"".join(b"\0" + _counted(name) + _counted(value) for name, value in section)
        ends = number == len(sections) and (number > 1 or not open_end)
        out += len(block).to_bytes(3, "big") + bytes([1, 4 | ends]) + b"\0\0\0\1" + block
    return out


def _counted(text: bytes) -> bytes:
    """A string of HPACK, without Huffman codes (RFC 7541 5.2)."""
    length = len(text)
    if length < 127:
        return bytes([length]) + text
    length -= 127
    coded = bytearray([127])
    while length >= 128:
        coded.append(length & 127 | 128)
        length >>= 7
    return bytes([*coded, length]) + text


_Heard = list[tuple[str, tuple[Header, ...], bool]]


def _heard_of_client(pieces: list[bytes], _: bytes) -> _Heard:
    connection = h2.server_connection()
    return _hear(connection, [_PREFACE + _SETTINGS, *pieces])


def _heard_of_server(pieces: list[bytes], method: bytes) -> _Heard:
    connection = h2.client_connection()
    connection.send_request([(b":method", method), *GET[1:]], end_stream=True)
    connection.data_to_send()
    return _hear(connection, [_SETTINGS, *pieces])


def _hear(connection: h2.Connection, pieces: list[bytes]) -> _Heard:
    heard: _Heard = []
    try:
        for piece in pieces:
            connection.receive_data(piece)
            for event in connection.events():
                if isinstance(event, h2.RequestReceived):
                    heard.append(("request", tuple(event.headers), event.end_stream))
                elif isinstance(event, h2.ResponseReceived):
                    heard.append(("response", tuple(event.headers), event.end_stream))
                elif isinstance(event, h2.InformationalResponseReceived):
                    heard.append(("informational", tuple(event.headers), False))
                elif isinstance(event, h2.TrailersReceived):
                    heard.append(("trailers", tuple(event.headers), True))
    except (h2.H2Error, h2.DenialOfServiceError):
        heard.append(("error", (), True))
    return heard


def _over_http2(head: RequestHead, end: bool) -> RequestHead:
    """What a server of ours hears when a client of ours says it."""
    client = h2.client_connection()
    client.send_request(h2.request_fields(head), end_stream=end)
    ((_, headers, _),) = _hear(h2.server_connection(), [bytes(client.data_to_send())])
    again = h2.request_head(headers, end)
    assert again is not None, f"{head} cannot be said over HTTP/2"
    return again


# Requests.


def _check_request(headers: tuple[Header, ...], end: bool) -> None:
    head = h2.request_head(headers, end)
    large = h2.oversized(headers)
    assert large or len(headers) <= h2.MAX_FIELDS
    if head is None or large:
        return
    _check_fields(head.headers, hop=frozenset((b"te",)))
    assert b"@" not in head.authority
    _check_same(_over_http2(head, end), head)
    if head.method == b"CONNECT" and not head.path:
        return
    if not head.path.isascii() or b"#" in head.path:
        return  # what H1ClientConnection turns away
    data, chunked = h1.encode_request(head, end)
    body = b"0\r\n\r\n" if chunked else b"x" * (head.length or 0) if (head.length or 0) <= _LONGEST_BODY else b""
    _check_h11(head, data + body)
    heard = Asked()
    decoder = heard.decoder = h1.RequestDecoder(heard)
    try:
        decoder.feed(data + body)
    except h1.H1Error:
        assert len(heard.lines) == 0, "refused, but something was read of it"
        return
    kind, method, _, authority, path, fields, *_ = heard.lines[0]
    assert kind == "head"
    assert [line[0] for line in heard.lines].count("head") == 1, "it is more than one request"
    assert (method, path, authority) == (head.method, head.path, head.authority)
    assert _meaning(fields) == _meaning(head.headers)
    back = RequestHead(method, path, authority, fields, head.scheme, head.length)
    _check_same(_over_http2(back, end), back)


def _check_h11(head: RequestHead, data: bytes) -> None:
    """Another one reads the same request, and nothing behind it."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    reader.receive_data(data)
    request = reader.next_event()
    assert isinstance(request, h11.Request), request
    assert (request.method, request.target) == (head.method, head.path)
    # RFC 9112 3.2: it is there even where there is no authority.
    assert [bytes(value) for name, value in request.headers if name == b"host"] == [head.authority]
    assert _meaning([(bytes(name), bytes(value)) for name, value in request.headers]) == _meaning(head.headers)


def _check_same(one: RequestHead, other: RequestHead) -> None:
    assert (one.method, one.path, one.authority) == (other.method, other.path, other.authority)
    assert _meaning(one.headers) == _meaning(other.headers)


_FRAMING: Final = HOP_BY_HOP | {b"content-length"}


def _meaning(fields: Headers) -> Headers:
    """Fields without those that say where a message ends and to whom it goes; with one cookie."""
    crumbs = b"; ".join(value for name, value in fields if name == b"cookie" and value)
    kept = [(name, value) for name, value in fields if name not in _FRAMING and name != b"cookie"]
    return [*kept, (b"cookie", crumbs)]


def _check_fields(fields: Headers, hop: frozenset[bytes]) -> None:
    for name, value in fields:
        assert not set(name + value) & {10, 13, 0}, (name, value)
        assert name, (name, value)
        assert name == name.lower(), (name, value)
        assert not name.startswith(b":"), (name, value)
        assert not set(name) & set(b" \t:"), (name, value)
        assert value == value.strip(b" \t"), (name, value)
        assert name not in HOP_BY_HOP or name in hop, (name, value)


# Responses.


def _check_response(headers: tuple[Header, ...], end: bool, method: bytes) -> None:
    head = h2.response_head(headers)
    if head is None or h2.oversized(headers):
        return
    assert 100 <= head.status <= 999
    _check_fields(head.headers, hop=frozenset((b"te", b"host", b"proxy-authorization", b"http2-settings")))
    assert _answered(head, end, method) == (head.status, _meaning(head.headers))
    bodyless = method == b"HEAD" or head.status in (204, 304)
    length = 0 if bodyless and head.length is None else head.length
    data, chunked = h1.encode_response(ResponseHead(head.status, head.headers, length), end, not bodyless, b"")
    size = 0 if bodyless or end else head.length or 0
    if size > _LONGEST_BODY:
        return
    heard = Answered()
    decoder = h1.ResponseDecoder(heard)
    decoder.expect(RequestHead(method, b"/", b"a", []))
    try:
        decoder.feed(data + (b"0\r\n\r\n" if chunked else b"x" * size))
    except h1.H1Error as error:
        # Our own client's limits are lower over HTTP/1.1; zeros before a length are what they are.
        if error.status != 431 and not _many_digits(head.headers):
            raise
        return
    assert not decoder.until_close, "only the end of the connection ends the answer"
    kind, status, fields, _ = heard.lines[0]
    assert (kind, status) == ("head", head.status)
    assert [line[0] for line in heard.lines].count("end") == 1, "the answer does not end once"
    assert _meaning(fields) == _meaning(head.headers)
    back = ResponseHead(status, fields, head.length)
    assert _answered(back, end, method) == (status, _meaning(fields))


def _many_digits(fields: Headers) -> bool:
    return any(name == b"content-length" and len(value) > MAX_DIGITS for name, value in fields)


def _check_informational(headers: tuple[Header, ...]) -> None:
    head = h2.response_head(headers)
    if head is None:
        return
    heard = Answered()
    decoder = h1.ResponseDecoder(heard)
    decoder.expect(RequestHead(b"GET", b"/", b"a", []))
    decoder.feed(h1.encode_response(head, True, False, b"")[0])
    ((kind, status, fields),) = heard.lines
    assert (kind, status) == ("informational", head.status)
    assert _meaning(fields) == _meaning(head.headers)


def _answered(head: ResponseHead, end: bool, method: bytes) -> tuple[int, Headers]:
    """What a client of ours hears when a server of ours says it."""
    client, server = h2.client_connection(), h2.server_connection()
    stream_id = client.send_request([(b":method", method), *GET[1:]], end_stream=True)
    server.receive_data(client.data_to_send())
    server.send_response(stream_id, h2.response_fields(head), end_stream=end)
    ((_, headers, _),) = _hear(client, [bytes(server.data_to_send())])
    again = h2.response_head(headers)
    assert again is not None
    return again.status, _meaning(again.headers)


# Trailers.


def _check_trailers(trailers: Headers) -> None:
    if len(trailers) > h1.MAX_FIELDS or h2.oversized((*trailers,)):
        return  # which a connection of ours refuses
    kept = h2.trailer_fields(trailers)
    _check_fields(kept, hop=frozenset())
    assert all(fit_for_trailers(name) for name, _ in kept)
    assert kept == [pair for pair in trailers if fit_for_trailers(pair[0])]
    heard: Any = Asked()
    decoder = heard.decoder = h1.RequestDecoder(heard)
    head = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
    decoder.feed(head + h1.encode_trailers(trailers))
    assert heard.lines[-1] == ("end", kept), "the trailers are others"
    assert len(heard.lines) == 2, "there is more than one request"
