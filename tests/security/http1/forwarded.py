"""What a client may say, odd as some of it is, and what an endpoint gets of it: byte for byte.

Only the table; test_forwarding.py holds the sidecar to it.
"""

from typing import Final, NamedTuple

from tests.security.http1.refused import HOST, TE

HEAD: Final = b"host: a\r\n"
CHUNKS: Final = b"transfer-encoding: chunked\r\n\r\n"
NEXT: Final = b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n"
NEXT_GOT: Final = b"GET /next HTTP/1.1\r\n" + HEAD + b"\r\n"


class Forwarded(NamedTuple):
    """`data`, what an endpoint gets of it, and how many answers of 200 there are."""

    data: bytes
    got: bytes
    answers: int = 1


def get(fields: bytes = b"", got: bytes = b"", line: bytes = b"GET / HTTP/1.1") -> Forwarded:
    """A GET with these fields, and another one behind it."""
    return Forwarded(line + b"\r\n" + HOST + fields + b"\r\n" + NEXT, line_got(got) + NEXT_GOT, 2)


def line_got(fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = HEAD) -> bytes:
    """A head as it goes out."""
    return line + b"\r\n" + host + fields + b"\r\n"


def target(line: bytes, got: bytes, host: bytes = HEAD) -> Forwarded:
    """A request line, and the line and Host that go out."""
    return Forwarded(line + b"\r\n" + HOST + b"\r\n" + NEXT, line_got(b"", got, host) + NEXT_GOT, 2)


def chunked(body: bytes, got: bytes, more: bytes = b"") -> Forwarded:
    """A chunked POST, and a GET behind it. `more` are fields of the POST."""
    return Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + TE + more + b"\r\n" + body + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + more.lower() + CHUNKS + got + NEXT_GOT,
        2,
    )


def named(field: bytes, stays: bool) -> Forwarded:
    """A field that `Connection` names."""
    kept = field.partition(b":")[0].lower() + b": " + field.partition(b":")[2].strip() + b"\r\n" if stays else b""
    return get(b"Connection: " + field.partition(b":")[0] + b"\r\n" + field + b"\r\n", kept)


CHUNKED: Final[dict[str, Forwarded]] = {
    "chunks": chunked(b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "an extension is dropped": chunked(b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "an extension in quotes": chunked(b'5;a="b;c"\r\nhello\r\n0\r\n\r\n', b"5\r\nhello\r\n0\r\n\r\n"),
    "an extension of 1 KiB": chunked(b"5;" + b"x" * 1023 + b"\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "zeros before a size": chunked(b"0005\r\nhello\r\n00\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    "a size in upper case": chunked(b"A\r\n0123456789\r\n0\r\n\r\n", b"a\r\n0123456789\r\n0\r\n\r\n"),
    "no body in chunks": chunked(b"0\r\n\r\n", b"0\r\n\r\n"),
    "a chunk that looks like a request": chunked(
        b"%x\r\n" % len(NEXT) + NEXT + b"\r\n0\r\n\r\n", b"%x\r\n" % len(NEXT) + NEXT + b"\r\n0\r\n\r\n"
    ),
    "trailers stay trailers": chunked(b"0\r\nX-T: 1\r\nX-U: 2\r\n\r\n", b"0\r\nx-t: 1\r\nx-u: 2\r\n\r\n"),
    "trailers that route": chunked(
        b"0\r\nHost: b\r\nX-T: 1\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n", b"0\r\nx-t: 1\r\n\r\n"
    ),
    "trailers that frame": chunked(
        b"0\r\nConnection: close\r\nTrailer: x\r\nUpgrade: x\r\nTE: x\r\n\r\n", b"0\r\n\r\n"
    ),
    "trailers that authenticate": chunked(
        b"0\r\nAuthorization: x\r\nCookie: y\r\nProxy-Authorization: z\r\nSet-Cookie: w\r\n\r\n", b"0\r\n\r\n"
    ),
    "trailers that describe the body": chunked(
        b"0\r\nContent-Type: x\r\nContent-Encoding: y\r\nContent-Range: z\r\n\r\n", b"0\r\n\r\n"
    ),
    "trailers that ask to authenticate": chunked(
        b"0\r\nWWW-Authenticate: Basic\r\nProxy-Authenticate: Basic\r\nExpect: 100-continue\r\n\r\n", b"0\r\n\r\n"
    ),
    # What becomes a variable of CGI or WSGI has both spelled alike.
    "trailers with underscores in their names": chunked(
        b"0\r\nContent_Length: 9\r\nTransfer_Encoding: x\r\nX_Forwarded_For: 9.9.9.9\r\nX_T: 1\r\n\r\n",
        b"0\r\nx_t: 1\r\n\r\n",
    ),
    "trailers of the sidecar's own": chunked(
        b"0\r\nX-Sidecar-Priority: critical\r\nX-Sidecar-Attempt: 9\r\n\r\n", b"0\r\n\r\n"
    ),
    "chunked in other cases": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"tRANSFER-eNCODING:ChUnKeD \r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HEAD + CHUNKS + b"0\r\n\r\n",
    ),
    "chunked, and a tab": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HEAD + CHUNKS + b"0\r\n\r\n",
    ),
    "chunked behind a request in one read": Forwarded(
        NEXT + b"POST / HTTP/1.1\r\n" + HOST + TE + b"\r\n2\r\nok\r\n0\r\n\r\n" + NEXT,
        NEXT_GOT + b"POST / HTTP/1.1\r\n" + HEAD + CHUNKS + b"2\r\nok\r\n0\r\n\r\n" + NEXT_GOT,
        3,
    ),
    "chunked behind a body that looks like a chunked request": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 53\r\n\r\n"
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"POST / HTTP/1.1\r\n" + HOST + TE + b"\r\n2\r\nok\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HEAD + b"content-length: 53\r\n\r\n"
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        b"POST / HTTP/1.1\r\n" + HEAD + CHUNKS + b"2\r\nok\r\n0\r\n\r\n",
        2,
    ),
    "Connection hides the coding": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: transfer-encoding\r\n" + TE + b"\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HEAD + CHUNKS + b"0\r\n\r\n",
    ),
}

LENGTH: Final[dict[str, Forwarded]] = {
    "a body of a length": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello" + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + b"content-length: 5\r\n\r\nhello" + NEXT_GOT,
        2,
    ),
    "a body that looks like a request": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(NEXT) + NEXT + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + b"content-length: %d\r\n\r\n" % len(NEXT) + NEXT + NEXT_GOT,
        2,
    ),
    "a GET with a body": Forwarded(
        b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello" + NEXT,
        b"GET / HTTP/1.1\r\n" + HEAD + b"content-length: 5\r\n\r\nhello" + NEXT_GOT,
        2,
    ),
    "zeros before a length stay": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 005\r\n\r\nhello" + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + b"content-length: 005\r\n\r\nhello" + NEXT_GOT,
        2,
    ),
    "a POST without a word about a body": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"\r\n" + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + b"content-length: 0\r\n\r\n" + NEXT_GOT,
        2,
    ),
    "Connection hides the length": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: content-length\r\nContent-Length: 5\r\n\r\nhello" + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + b"content-length: 5\r\n\r\nhello" + NEXT_GOT,
        2,
    ),
    "data behind Connection: close": Forwarded(
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n" + NEXT, line_got(b"")
    ),
    "data behind a body and Connection: close": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello" + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + b"content-length: 5\r\n\r\nhello",
    ),
    "data behind chunks and Connection: close": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n" + TE + b"\r\n0\r\n\r\n" + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + CHUNKS + b"0\r\n\r\n",
    ),
    "data behind a request of HTTP/1.0": Forwarded(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n" + NEXT, line_got(b"")),
}

FIELDS: Final[dict[str, Forwarded]] = {
    "names in lower case": get(b"X-A: Bc\r\n", b"x-a: Bc\r\n"),
    "white space around a value": get(b"X-A: \t b \t \r\n", b"x-a: b\r\n"),
    "a tab in a value": get(b"X-A: b\tc\r\n", b"x-a: b\tc\r\n"),
    "an empty value": get(b"X-A:\r\n", b"x-a: \r\n"),
    "bytes above ASCII in a value": get(b"X-A: \xe4\xff\r\n", b"x-a: \xe4\xff\r\n"),
    "order and repetition": get(b"X-B: 1\r\nX-A: 2\r\nX-B: 3\r\n", b"x-b: 1\r\nx-a: 2\r\nx-b: 3\r\n"),
    "every byte of a token in a name": get(b"!#$%&'*+-.^_`|~9aZ: v\r\n", b"!#$%&'*+-.^_`|~9az: v\r\n"),
    "empty lines before a request": Forwarded(b"\r\n\r\n" + NEXT, NEXT_GOT),
    "empty lines between requests": Forwarded(NEXT + b"\r\n" + NEXT, NEXT_GOT * 2, 2),
}

# llhttp is lenient about a line; what goes on is not.
LINES: Final[dict[str, Forwarded]] = {
    "asterisk-form": target(b"OPTIONS * HTTP/1.1", b"OPTIONS * HTTP/1.1"),
    "every byte of a target": target(
        b"GET /!$%&'()*+,-./:;<=>?@[]^_`{|}~\\\" HTTP/1.1", b"GET /!$%&'()*+,-./:;<=>?@[]^_`{|}~\\\" HTTP/1.1"
    ),
    "dots and escapes are left alone": target(b"GET //a/..%2f%00/./b HTTP/1.1", b"GET //a/..%2f%00/./b HTTP/1.1"),
    "HTTP/1.0 goes on as 1.1": Forwarded(b"GET / HTTP/1.0\r\n" + HOST + b"\r\n", line_got(b"")),
}

AUTHORITY: Final[dict[str, Forwarded]] = {
    "absolute-form wins": target(b"GET http://b/x HTTP/1.1", b"GET /x HTTP/1.1", b"host: b\r\n"),
    "absolute-form with a port": target(b"GET http://b:81/x?y HTTP/1.1", b"GET /x?y HTTP/1.1", b"host: b:81\r\n"),
    "absolute-form in upper case": target(b"GET HTTP://B/x HTTP/1.1", b"GET /x HTTP/1.1", b"host: B\r\n"),
    "absolute-form of TLS": target(b"GET https://b/x HTTP/1.1", b"GET /x HTTP/1.1", b"host: b\r\n"),
    "absolute-form without a path": target(b"GET http://b HTTP/1.1", b"GET / HTTP/1.1", b"host: b\r\n"),
    "absolute-form with a query alone": target(b"GET http://b?x=1 HTTP/1.1", b"GET /?x=1 HTTP/1.1", b"host: b\r\n"),
    "absolute-form of OPTIONS": target(b"OPTIONS http://b HTTP/1.1", b"OPTIONS * HTTP/1.1", b"host: b\r\n"),
    "an address": Forwarded(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n", line_got(b"", host=b"host: 127.0.0.1:80\r\n")
    ),
    "an address of IPv6": Forwarded(
        b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", line_got(b"", host=b"host: [::1]:80\r\n")
    ),
    "an empty Host": Forwarded(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", line_got(b"", host=b"host: \r\n")),
    "HTTP/1.0 without a Host": Forwarded(b"GET / HTTP/1.0\r\n\r\n", line_got(b"", host=b"host: \r\n")),
    "Host is not the first": Forwarded(b"GET / HTTP/1.1\r\nX-A: 1\r\nHost: a\r\n\r\n", line_got(b"x-a: 1\r\n")),
    "Connection hides Host": get(b"Connection: host\r\n"),
}

HOP_BY_HOP: Final[dict[str, Forwarded]] = {
    "a field that Connection names": named(b"X-A: 1", False),
    "two of them, in other cases": get(b"Connection: X-a , x-B\r\nx-A: 1\r\nX-B: 2\r\nX-C: 3\r\n", b"x-c: 3\r\n"),
    "over two Connection fields": get(b"Connection: x-a\r\nX-A: 1\r\nX-B: 2\r\nConnection: x-b\r\n"),
    "a name that Connection has in quotes": get(b'Connection: "x-a"\r\nX-A: 1\r\n', b"x-a: 1\r\n"),
    "Content-Length": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Content-Length\r\nContent-Length: 2\r\n\r\nok" + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + b"content-length: 2\r\n\r\nok" + NEXT_GOT,
        2,
    ),
    **{
        f"{field.partition(b':')[0].decode()} stays": named(field, True)
        for field in (
            b"Authorization: Bearer x",
            b"Cookie: a=b",
            b"Content-Type: text/plain",
            b"Content-Encoding: gzip",
            b"X-Forwarded-For: 10.0.0.1",
            b"X-Forwarded-Host: a",
            b"X-Forwarded-Proto: https",
            b"X-Forwarded-Port: 443",
            b"X-Forwarded-Prefix: /a",
            b"X-Forwarded-Client-Cert: x",
            b"Forwarded: for=10.0.0.1",
            b"X-Real-Ip: 10.0.0.1",
            b"Via: 1.1 a",
            b"Idempotency-Key: x",
            b"Expect: 100-continue",
            b"X-Sidecar-Priority: critical",
            b"X-Sidecar-Attempt: 2",
        )
    },
    **{
        f"{field.partition(b':')[0].decode()} ends here": get(field + b"\r\n")
        for field in (
            b"Keep-Alive: timeout=5",
            b"Proxy-Connection: keep-alive",
            b"Proxy-Authorization: Basic eA==",
            b"TE: gzip",
            b"HTTP2-Settings: AAMAAABk",
            b"Upgrade: websocket",
        )
    },
    "TE of trailers stays": get(b"TE: gzip, trailers;q=1, trailers\r\n", b"te: trailers\r\nconnection: te\r\n"),
    "close is said to this connection alone": Forwarded(
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", line_got(b"")
    ),
}

UPGRADES: Final[dict[str, Forwarded]] = {
    "h2c": get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
    "h2c in upper case": get(b"Connection: UPGRADE\r\nUpgrade: H2C\r\n"),
    "h2c with a body": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello" + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + b"content-length: 5\r\n\r\nhello" + NEXT_GOT,
        2,
    ),
    "h2c with chunks": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + TE + b"\r\n0\r\n\r\n" + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + CHUNKS + b"0\r\n\r\n" + NEXT_GOT,
        2,
    ),
    "an upgrade with a body": Forwarded(
        b"POST / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + TE + b"\r\n0\r\n\r\n" + NEXT,
        b"POST / HTTP/1.1\r\n" + HEAD + CHUNKS + b"0\r\n\r\n" + NEXT_GOT,
        2,
    ),
    "an upgrade that Connection does not name": get(b"Upgrade: websocket\r\n"),
    "an upgrade in HTTP/1.0": Forwarded(
        b"GET / HTTP/1.0\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", line_got(b"")
    ),
    "h2c beside another": get(
        b"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n", b"connection: upgrade\r\nupgrade: websocket\r\n"
    ),
    "an upgrade that is answered with 200": get(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"connection: upgrade\r\nupgrade: websocket\r\n"
    ),
}

TABLES: Final[dict[str, dict[str, Forwarded]]] = {
    "chunked": CHUNKED,
    "length": LENGTH,
    "fields": FIELDS,
    "lines": LINES,
    "authority": AUTHORITY,
    "hop-by-hop": HOP_BY_HOP,
    "upgrades": UPGRADES,
}
ALL: Final[dict[str, Forwarded]] = {
    f"{part}: {name}": case for part, rows in TABLES.items() for name, case in rows.items()
}
