"""HTTP/1.1 messages (RFC 9112), sans-io: bytes to heads, data and ends, and back.

llhttp (through httptools, always strict) reads heads. What it leaves to its user lives
here: size limits, Host rules, hop-by-hop fields, where a body ends, and the chunked coding,
whose extensions llhttp reads without telling how long they are.

A decoder is given a Sink and tells it of messages while `feed` runs. Once `feed`
has raised H1Error the connection is finished. The only importer of httptools.
"""

from sidecar.codec.h1.decoder import NO_MEMORY
from sidecar.codec.h1.encoding import encode_request, encode_response, encode_trailers
from sidecar.codec.h1.limits import MAX_EXTENSION_BYTES, MAX_FIELDS, MAX_HEAD_BYTES, MAX_LINE_BYTES, H1Error
from sidecar.codec.h1.requests import RequestDecoder
from sidecar.codec.h1.responses import ResponseDecoder
from sidecar.codec.h1.sink import ResponseSink, Sink

__all__ = [
    "MAX_EXTENSION_BYTES",
    "MAX_FIELDS",
    "MAX_HEAD_BYTES",
    "MAX_LINE_BYTES",
    "NO_MEMORY",
    "H1Error",
    "RequestDecoder",
    "ResponseDecoder",
    "ResponseSink",
    "Sink",
    "encode_request",
    "encode_response",
    "encode_trailers",
]
