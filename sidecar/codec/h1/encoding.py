"""Heads and trailers to bytes."""

from http import HTTPStatus

from sidecar.codec.fields import fit_for_trailers
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers

# One call into C for each field of a head.
_line = b": ".join
# The empty line behind the last field, and the end of that line.
_END = (b"", b"")
# The only `TE` that a decoder lets through.
TE = (b"te", b"trailers")

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus}

# Methods whose request without a body says nothing of a length (RFC 9110 8.6).
_BODYLESS_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE", b"CONNECT"))


def encode_request(head: RequestHead, end: bool) -> tuple[bytes, bool]:
    """The bytes of a request head, and whether its body is to be chunked."""
    headers = head.headers
    lines = [b"%b %b HTTP/1.1" % (head.method, head.path), b"host: " + head.authority, *map(_line, headers)]
    chunked = False
    if head.upgrade:
        lines += (b"connection: upgrade", b"upgrade: " + head.upgrade)
    elif not end:
        if head.length is None:
            chunked = True
            lines.append(b"transfer-encoding: chunked")
    elif head.method not in _BODYLESS_METHODS and not _has(headers, b"content-length"):
        lines.append(b"content-length: 0")
    if TE in headers:
        lines.append(b"connection: te")
    lines += _END
    return b"\r\n".join(lines), chunked


def encode_response(head: ResponseHead, end: bool, chunkable: bool, connection: bytes) -> tuple[bytes, bool]:
    """The bytes of a response head, and whether its body is to be chunked.

    `chunkable` is False for an HTTP/1.0 client, and where no body may follow;
    `connection` is the value of a Connection field to add, or empty. The phrase is
    the standard one (RFC 9112 4: clients ignore it).
    """
    status = head.status
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status, *map(_line, head.headers)]
    chunked = False
    if head.length is None and status >= 200:
        if not end:
            if chunkable:
                chunked = True
                lines.append(b"transfer-encoding: chunked")
        elif status != 204 and status != 304:
            lines.append(b"content-length: 0")
    if connection:
        lines.append(b"connection: " + connection)
    lines += _END
    return b"\r\n".join(lines), chunked


def encode_trailers(trailers: Headers) -> bytes:
    """The last chunk and the trailer section: of what may stand in one."""
    return b"\r\n".join([b"0", *(_line(pair) for pair in trailers if fit_for_trailers(pair[0])), *_END])


def _has(headers: Headers, name: bytes) -> bool:
    return any(pair[0] == name for pair in headers)
