"""What a client may not say: byte for byte, with the status that it gets. No byte of it reaches an endpoint.

Only the table; test_requests.py holds the sidecar to it.
"""

from typing import Final, NamedTuple

HOST: Final = b"Host: a\r\n"
# Where a body or a head is taken for something else, this is what gets through.
SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"

BIG_FIELD: Final = b"X-Big: " + b"x" * 70_000 + b"\r\n"


class Refused(NamedTuple):
    """`data`, and what is answered before the connection is closed."""

    data: bytes
    status: int = 400
    error: bytes = b"bad_request"


def post(fields: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> Refused:
    """A POST with these fields."""
    return Refused(b"POST / " + version + b"\r\n" + HOST + fields + b"\r\n" + body)


def get(fields: bytes = b"", line: bytes = b"GET / HTTP/1.1") -> Refused:
    """A GET with these fields beside Host, and a request behind it that must not run."""
    return Refused(line + b"\r\n" + HOST + fields + b"\r\n" + SMUGGLED)


def chunked(body: bytes) -> Refused:
    """A chunked body, with a request behind it."""
    return post(b"Transfer-Encoding: chunked\r\n", body + SMUGGLED)


CL5: Final = b"Content-Length: 5\r\n"
TE: Final = b"Transfer-Encoding: chunked\r\n"
LAST: Final = b"0\r\n\r\n"

LENGTH: Final[dict[str, Refused]] = {
    # RFC 9112 6.1: both is an attack, whichever comes first and however it is spelled.
    "length, then chunked": post(CL5 + TE, LAST + SMUGGLED),
    "chunked, then length": post(TE + CL5, LAST + SMUGGLED),
    "length 0 and chunked": post(b"Content-Length: 0\r\n" + TE, LAST + SMUGGLED),
    "both, in other cases": post(b"cOnTeNt-LeNgTh: 5\r\ntRaNsFeR-eNcOdInG: ChUnKeD\r\n", LAST + SMUGGLED),
    "both, other fields between them": post(CL5 + b"X-A: 1\r\n" + TE + b"X-B: 2\r\n", LAST + SMUGGLED),
    "both, with tabs around": post(CL5 + b"Transfer-Encoding:\tchunked\t\r\n", LAST + SMUGGLED),
    "both, and Connection hides the length": post(b"Connection: content-length\r\n" + CL5 + TE, LAST + SMUGGLED),
    "both, and Connection hides the coding": post(b"Connection: transfer-encoding\r\n" + CL5 + TE, LAST + SMUGGLED),
    "both, in HTTP/1.0": post(CL5 + TE, LAST + SMUGGLED, b"HTTP/1.0"),
    "both, the coding is identity": post(CL5 + b"Transfer-Encoding: identity\r\n", b"hello" + SMUGGLED),
    "both, the coding is empty": post(CL5 + b"Transfer-Encoding:\r\n", b"hello" + SMUGGLED),
    "two codings": post(TE + TE, LAST + SMUGGLED),
    "two codings, the second is another": post(TE + b"Transfer-Encoding: identity\r\n", LAST + SMUGGLED),
    "two codings, the first is another": post(b"Transfer-Encoding: identity\r\n" + TE, LAST + SMUGGLED),
    "chunked twice in a list": post(b"Transfer-Encoding: chunked, chunked\r\n", LAST + SMUGGLED),
    "chunked, then gzip": post(b"Transfer-Encoding: chunked, gzip\r\n", LAST + SMUGGLED),
    "gzip, then chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", LAST + SMUGGLED),
    "chunked with an empty member": post(b"Transfer-Encoding: ,chunked\r\n", LAST + SMUGGLED),
    "chunked with an empty member behind": post(b"Transfer-Encoding: chunked,\r\n", LAST + SMUGGLED),
    "chunked with a parameter": post(b"Transfer-Encoding: chunked;q=1\r\n", LAST + SMUGGLED),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"\r\n', LAST + SMUGGLED),
    "transfer_encoding, as CGI spells it": post(b"Transfer_Encoding: chunked\r\n", LAST + SMUGGLED),
    "a length and transfer_encoding": post(b"Content-Length: 5\r\nTransfer_Encoding: chunked\r\n", LAST + SMUGGLED),
    "content_length beside a length": post(b"Content-Length: 5\r\nContent_Length: 0\r\n", b"hello" + SMUGGLED),
    "xchunked": post(b"Transfer-Encoding: xchunked\r\n", LAST + SMUGGLED),
    "chunkedx": post(b"Transfer-Encoding: chunkedx\r\n", LAST + SMUGGLED),
    "x chunked": post(b"Transfer-Encoding: x chunked\r\n", LAST + SMUGGLED),
    "identity": post(b"Transfer-Encoding: identity\r\n", SMUGGLED),
    "an empty coding": post(b"Transfer-Encoding:\r\n", SMUGGLED),
    "a vertical tab before chunked": post(b"Transfer-Encoding: \x0bchunked\r\n", LAST + SMUGGLED),
    "a form feed before chunked": post(b"Transfer-Encoding: \x0cchunked\r\n", LAST + SMUGGLED),
    "a NUL before chunked": post(b"Transfer-Encoding: \x00chunked\r\n", LAST + SMUGGLED),
    "a DEL before chunked": post(b"Transfer-Encoding: \x7fchunked\r\n", LAST + SMUGGLED),
    "a backspace behind chunked": post(b"Transfer-Encoding: chunked\x08\r\n", LAST + SMUGGLED),
    "a bare CR before chunked": post(b"Transfer-Encoding: \rchunked\r\n", LAST + SMUGGLED),
    "NBSP before chunked": post(b"Transfer-Encoding: \xa0chunked\r\n", LAST + SMUGGLED),
    "NEL before chunked": post(b"Transfer-Encoding: \x85chunked\r\n", LAST + SMUGGLED),
    "chunked on a folded line": post(b"Transfer-Encoding:\r\n chunked\r\n", LAST + SMUGGLED),
    "chunked in HTTP/1.0": post(TE, LAST + SMUGGLED, b"HTTP/1.0"),
    "chunked GET in HTTP/1.0": Refused(b"GET / HTTP/1.0\r\n" + HOST + TE + b"\r\n" + LAST),
    "transfer-encoding with a space before the colon": post(b"Transfer-Encoding : chunked\r\n", LAST + SMUGGLED),
    "an empty length": post(b"Content-Length:\r\n", SMUGGLED),
    "a length of a space": post(b"Content-Length: \t \r\n", SMUGGLED),
    "a positive length": post(b"Content-Length: +5\r\n", b"hello" + SMUGGLED),
    "a negative length": post(b"Content-Length: -5\r\n", b"hello" + SMUGGLED),
    "minus zero": post(b"Content-Length: -0\r\n", SMUGGLED),
    "a length in hex": post(b"Content-Length: 0x5\r\n", b"hello" + SMUGGLED),
    "a hex digit": post(b"Content-Length: a\r\n", b"helloworld" + SMUGGLED),
    "an underscore in a length": post(b"Content-Length: 1_0\r\n", b"helloworld" + SMUGGLED),
    "a space in a length": post(b"Content-Length: 1 0\r\n", b"helloworld" + SMUGGLED),
    "a fraction": post(b"Content-Length: 5.0\r\n", b"hello" + SMUGGLED),
    "an exponent": post(b"Content-Length: 5e0\r\n", b"hello" + SMUGGLED),
    "a list of one length twice": post(b"Content-Length: 5,5\r\n", b"hello" + SMUGGLED),
    "a list with a space": post(b"Content-Length: 5, 5\r\n", b"hello" + SMUGGLED),
    "a list of two lengths": post(b"Content-Length: 5, 6\r\n", b"hello" + SMUGGLED),
    "a length with a comma": post(b"Content-Length: 5,\r\n", b"hello" + SMUGGLED),
    "the same length twice": post(CL5 + CL5, b"hello" + SMUGGLED),
    "two lengths": post(CL5 + b"Content-Length: 6\r\n", b"hello!" + SMUGGLED),
    "two lengths, the first is 0": post(b"Content-Length: 0\r\n" + CL5, b"hello" + SMUGGLED),
    "2^63": post(b"Content-Length: 9223372036854775808\r\n", b"hello"),
    "2^64": post(b"Content-Length: 18446744073709551616\r\n", b"hello"),
    "2^64 and 5": post(b"Content-Length: 18446744073709551621\r\n", b"hello" + SMUGGLED),
    "a length of 40 digits": post(b"Content-Length: " + b"9" * 40 + b"\r\n", b"hello"),
    "a length of 40 zeros": post(b"Content-Length: " + b"0" * 40 + b"\r\n", SMUGGLED),
    "other digits": post("Content-Length: \u0665\r\n".encode(), b"hello" + SMUGGLED),
    "a superscript digit": post(b"Content-Length: \xb2\r\n", b"hello" + SMUGGLED),
    "a NUL behind a length": post(b"Content-Length: 5\x00\r\n", b"hello" + SMUGGLED),
    "a vertical tab before a length": post(b"Content-Length: \x0b5\r\n", b"hello" + SMUGGLED),
    "content-length with a space before the colon": post(b"Content-Length : 5\r\n", b"hello" + SMUGGLED),
    "a length on a folded line": post(b"Content-Length:\r\n 5\r\n", b"hello" + SMUGGLED),
}

CHUNKS: Final[dict[str, Refused]] = {
    "a space before the size": chunked(b" 5\r\nhello\r\n" + LAST),
    "a space behind the size": chunked(b"5 \r\nhello\r\n" + LAST),
    "a tab behind the size": chunked(b"5\t\r\nhello\r\n" + LAST),
    "an underscore in the size": chunked(b"1_0\r\nhello\r\n" + LAST),
    "a size with 0x": chunked(b"0x5\r\nhello\r\n" + LAST),
    "a positive size": chunked(b"+5\r\nhello\r\n" + LAST),
    "a negative size": chunked(b"-5\r\nhello\r\n" + LAST),
    "an empty size": chunked(b"\r\nhello\r\n" + LAST),
    "a size that is no number": chunked(b"g\r\nhello\r\n" + LAST),
    "a size in other digits": chunked("\uff15\r\nhello\r\n".encode() + LAST),
    "a size of 2^64 and 5": chunked(b"10000000000000005\r\nhello\r\n" + LAST),
    "a size of 17 digits": chunked(b"f" * 17 + b"\r\nhello\r\n" + LAST),
    "a bare LF behind the size": chunked(b"5\nhello\r\n" + LAST),
    "a bare CR behind the size": chunked(b"5\rhello\r\n" + LAST),
    "CR CR LF behind the size": chunked(b"5\r\r\nhello\r\n" + LAST),
    "a bare LF behind the data": chunked(b"5\r\nhello\n" + LAST),
    "a bare CR behind the data": chunked(b"5\r\nhello\r" + LAST),
    "nothing behind the data": chunked(b"5\r\nhello" + LAST),
    "wrong bytes behind the data": chunked(b"5\r\nhelloXX" + LAST),
    "more data than the size": chunked(b"5\r\nhello!\r\n" + LAST),
    "a NUL in the size": chunked(b"5\x00\r\nhello\r\n" + LAST),
    "a comma in the size": chunked(b"5,5\r\nhello\r\n" + LAST),
    "a bare LF in an extension": chunked(b"5;a=\nb\r\nhello\r\n" + LAST),
    "a bare CR in an extension": chunked(b"5;a\rb\r\nhello\r\n" + LAST),
    "a NUL in an extension": chunked(b"5;a=\x00\r\nhello\r\n" + LAST),
    "an extension over 1 KiB": chunked(b"5;a=" + b"x" * 1100 + b"\r\nhello\r\n" + LAST),
    "an extension of 100 KiB": chunked(b"5;a=" + b"x" * 100_000 + b"\r\nhello\r\n" + LAST),
    "an extension over 1 KiB behind the last chunk": chunked(b"5\r\nhello\r\n0;a=" + b"x" * 1100 + b"\r\n\r\n"),
    "many extensions over 1 KiB on one chunk": chunked(b"5" + b";a=b" * 300 + b"\r\nhello\r\n" + LAST),
    "a bare LF behind the last chunk": chunked(b"5\r\nhello\r\n0\n\r\n"),
    "a bare LF behind the trailers": chunked(b"5\r\nhello\r\n0\r\n\n"),
    "a trailer with a space before the colon": chunked(b"0\r\nX-T : 1\r\n\r\n"),
    "a trailer without a colon": chunked(b"0\r\nX-T\r\n\r\n"),
    "a folded trailer": chunked(b"0\r\nX-T: 1\r\n 2\r\n\r\n"),
    "a trailer with a NUL": chunked(b"0\r\nX-T: \x00\r\n\r\n"),
    "too many trailers": chunked(b"0\r\n" + b"X-T: 1\r\n" * 300 + b"\r\n")._replace(status=431, error=b"too_large"),
    "too large trailers": chunked(b"0\r\n" + BIG_FIELD + b"\r\n")._replace(status=431, error=b"too_large"),
}

START_LINE: Final[dict[str, Refused]] = {
    "HTTP/2.0": get(line=b"GET / HTTP/2.0"),
    "HTTP/3.0": get(line=b"GET / HTTP/3.0"),
    "HTTP/0.9 spelled out": get(line=b"GET / HTTP/0.9"),
    "HTTP/0.9": Refused(b"GET /\r\n"),
    "HTTP/0.9 with fields": Refused(b"GET /\r\n" + HOST + b"\r\n"),
    "HTTP/1.2": get(line=b"GET / HTTP/1.2"),
    "HTTP/1.10": get(line=b"GET / HTTP/1.10"),
    "HTTP/01.1": get(line=b"GET / HTTP/01.1"),
    "HTTP/1": get(line=b"GET / HTTP/1"),
    "http/1.1": get(line=b"GET / http/1.1"),
    "a tab before the target": get(line=b"GET\t/ HTTP/1.1"),
    "a tab before the version": get(line=b"GET /\tHTTP/1.1"),
    "a space behind the version": get(line=b"GET / HTTP/1.1 "),
    "a space before the method": get(line=b" GET / HTTP/1.1"),
    "a space in the target": get(line=b"GET /a b HTTP/1.1"),
    "two versions": get(line=b"GET / HTTP/1.1 HTTP/1.1"),
    "a NUL in the target": get(line=b"GET /\x00 HTTP/1.1"),
    "a DEL in the target": get(line=b"GET /\x7f HTTP/1.1"),
    "a byte above ASCII in the target": get(line=b"GET /\xe4 HTTP/1.1"),
    "a bare CR in the target": get(line=b"GET /\rHTTP/1.1"),
    "a bare CR behind the line": Refused(b"GET / HTTP/1.1\r" + HOST + b"\r\n"),
    "a bare LF behind the line": Refused(b"GET / HTTP/1.1\n" + HOST + b"\r\n"),
    "two spaces behind the method": get(line=b"GET  / HTTP/1.1"),
    "two spaces before the version": get(line=b"GET /  HTTP/1.1"),
    "many spaces": get(line=b"GET   /   HTTP/1.1"),
    "two spaces in a CONNECT": get(line=b"CONNECT  a:443 HTTP/1.1"),
    "RTSP/1.0": get(line=b"GET / RTSP/1.0"),
    "RTSP/1.1": get(line=b"GET / RTSP/1.1"),
    "RTSP/1.1 and a body": Refused(b"POST / RTSP/1.1\r\n" + HOST + CL5 + b"\r\nhello" + SMUGGLED),
    "a method of RTSP": get(line=b"DESCRIBE / RTSP/1.1"),
    "OPTIONS of RTSP": get(line=b"OPTIONS * RTSP/1.1"),
    "ICE/1.0": get(line=b"SOURCE / ICE/1.0"),
    "ICE/1.1": get(line=b"SOURCE / ICE/1.1"),
    "RTSP/1.1 behind an empty line": get(line=b"\r\nGET / RTSP/1.1"),
    "a fragment": get(line=b"GET /a#b HTTP/1.1"),
    "a lower-case method": get(line=b"get / HTTP/1.1"),
    "a method that nobody knows": get(line=b"SMUGGLE / HTTP/1.1"),
    "no method": get(line=b" / HTTP/1.1"),
    "no target": get(line=b"GET  HTTP/1.1"),
    "a relative target": get(line=b"GET a HTTP/1.1"),
    "asterisk-form of a GET": get(line=b"GET * HTTP/1.1"),
    "authority-form of a GET": get(line=b"GET a:80 HTTP/1.1"),
    "origin-form of a CONNECT": get(line=b"CONNECT / HTTP/1.1"),
    "garbage": Refused(b"\x01\x02\x03\x04\r\n\r\n"),
    "a response": Refused(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "a target that is too long": get(line=b"GET /" + b"x" * 17_000 + b" HTTP/1.1")._replace(
        status=414, error=b"too_large"
    ),
    "a target without end": Refused(b"GET /" + b"x" * 100_000, 414, b"too_large"),
}

FIELDS: Final[dict[str, Refused]] = {
    "an empty name": get(b": v\r\n"),
    "a name of a space": get(b" : v\r\n"),
    "a space before the colon": get(b"X-A : v\r\n"),
    "a tab before the colon": get(b"X-A\t: v\r\n"),
    "a space in a name": get(b"X A: v\r\n"),
    "a NUL in a name": get(b"X\x00A: v\r\n"),
    "a control byte in a name": get(b"X\x01A: v\r\n"),
    "a DEL in a name": get(b"X\x7fA: v\r\n"),
    "a byte above ASCII in a name": get(b"X\xe4A: v\r\n"),
    "a slash in a name": get(b"X/A: v\r\n"),
    "brackets in a name": get(b"X[A]: v\r\n"),
    "quotes around a name": get(b'"X-A": v\r\n'),
    "a bare CR in a name": get(b"X\rA: v\r\n"),
    "no colon": get(b"X-A\r\n"),
    "a line of spaces": get(b"   \r\n"),
    "a NUL in a value": get(b"X-A: a\x00b\r\n"),
    "a bare CR in a value": get(b"X-A: a\rb\r\n"),
    "a bare CR before the end of a value": get(b"X-A: a\r\r\n"),
    "a bare LF in a value": get(b"X-A: a\nX-B: b\r\n"),
    "a bare LF behind the last field": Refused(b"GET / HTTP/1.1\r\nHost: a\n\n" + SMUGGLED),
    "LF CR": get(b"X-A: a\n\r\n"),
    "a folded line": get(b"X-A: a\r\n b\r\n"),
    "a line folded with a tab": get(b"X-A: a\r\n\tb\r\n"),
    "a first line that is folded": Refused(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "a control byte in a value": get(b"X-A: a\x01b\r\n"),
    "an escape in a value": get(b"X-A: \x1b[31m\r\n"),
    "a backspace in a value": get(b"X-A: a\x08\r\n"),
    "a vertical tab in a value": get(b"X-A: a\x0bb\r\n"),
    "a form feed in a value": get(b"X-A: a\x0cb\r\n"),
    "a DEL in a value": get(b"X-A: a\x7fb\r\n"),
    "a pseudo-header field": get(b":path: /x\r\n"),
    "one field that is too large": get(BIG_FIELD)._replace(status=431, error=b"too_large"),
    "fields that are too large together": get(b"".join(b"X-%d: %b\r\n" % (n, b"x" * 900) for n in range(100)))._replace(
        status=431, error=b"too_large"
    ),
    "too many fields": get(b"X-A: 1\r\n" * 300)._replace(status=431, error=b"too_large"),
    "a name without end": Refused(b"GET / HTTP/1.1\r\n" + b"x" * 100_000, 431, b"too_large"),
}

AUTHORITY: Final[dict[str, Refused]] = {
    "no Host": Refused(b"GET / HTTP/1.1\r\n\r\n" + SMUGGLED),
    "no Host beside absolute-form": Refused(b"GET http://a/ HTTP/1.1\r\n\r\n" + SMUGGLED),
    "two Hosts": get(b"Host: b\r\n"),
    "the same Host twice": get(HOST),
    "two Hosts in HTTP/1.0": Refused(b"GET / HTTP/1.0\r\n" + HOST + b"Host: b\r\n\r\n"),
    "two Hosts beside absolute-form": get(b"Host: b\r\n", b"GET http://a/ HTTP/1.1"),
    "a list of Hosts": Refused(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "user information": Refused(b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    "user information and a password": Refused(b"GET / HTTP/1.1\r\nHost: user:pw@a\r\n\r\n"),
    "user information in absolute-form": get(line=b"GET http://user@b/ HTTP/1.1"),
    "a path in Host": Refused(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "a query in Host": Refused(b"GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"),
    "a fragment in Host": Refused(b"GET / HTTP/1.1\r\nHost: a#b\r\n\r\n"),
    "a backslash in Host": Refused(b"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n"),
    "a scheme in Host": Refused(b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n"),
    "a port that is no number": Refused(b"GET / HTTP/1.1\r\nHost: a:x\r\n\r\n"),
    "two ports": Refused(b"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n"),
    "a port alone": Refused(b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n"),
    "a port of 6 digits": Refused(b"GET / HTTP/1.1\r\nHost: a:100000\r\n\r\n"),
    "IPv6 without brackets": Refused(b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n"),
    "half a bracket": Refused(b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    "bytes above ASCII in Host": Refused(b"GET / HTTP/1.1\r\nHost: \xe4\r\n\r\n"),
    "a tab in Host": Refused(b"GET / HTTP/1.1\r\nHost: a\tb\r\n\r\n"),
    "a Host with a space before the colon": Refused(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "a folded Host": Refused(b"GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n"),
    "absolute-form without a host": get(line=b"GET http:///x HTTP/1.1"),
    "absolute-form with a port alone": get(line=b"GET http://:80/x HTTP/1.1"),
    "user information in Host beside absolute-form": Refused(b"GET http://b/ HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    "a space in Host beside absolute-form": Refused(b"GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "absolute-form of another scheme": get(line=b"GET ftp://a/ HTTP/1.1"),
    "absolute-form with a backslash": get(line=b"GET http://a\\b/ HTTP/1.1"),
    "absolute-form with a fragment": get(line=b"GET http://a/#b HTTP/1.1"),
    "absolute-form with a port that is no number": get(line=b"GET http://a:x/ HTTP/1.1"),
}

UPGRADES: Final[dict[str, Refused]] = {
    "CONNECT with a body": Refused(b"CONNECT a:80 HTTP/1.1\r\n" + HOST + CL5 + b"\r\nhello"),
    "CONNECT with chunks": Refused(b"CONNECT a:80 HTTP/1.1\r\n" + HOST + TE + b"\r\n" + LAST),
    "CONNECT with a port alone": Refused(b"CONNECT :80 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "CONNECT with user information in Host": Refused(b"CONNECT a:80 HTTP/1.1\r\nHost: user@a\r\n\r\n"),
    "CONNECT without a port": Refused(b"CONNECT a HTTP/1.1\r\n" + HOST + b"\r\n"),
}

TABLES: Final[dict[str, dict[str, Refused]]] = {
    "length": LENGTH,
    "chunks": CHUNKS,
    "start line": START_LINE,
    "fields": FIELDS,
    "authority": AUTHORITY,
    "upgrades": UPGRADES,
}
ALL: Final[dict[str, Refused]] = {
    f"{part}: {name}": case for part, rows in TABLES.items() for name, case in rows.items()
}
