"""HTTP/1.1 messages (RFC 9112), sans-io: bytes to heads, data and ends, and back.

llhttp (through httptools, always strict) does the parsing. What it leaves to its
user lives here: size limits, Host rules, hop-by-hop fields, and where a body
ends when the head alone does not say so (HEAD, close-delimited, upgrades).

A decoder is given a Sink and tells it of messages while `feed` runs. Once `feed`
has raised H1Error the connection is finished. The only importer of httptools.
"""

import re
from typing import Any, Protocol

import httptools

from sidecar.codec.fields import HOP_BY_HOP, PROTECTED
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers, tokens

# What one head may hold; Envoy allows 60 KiB and 100 fields, nginx 32 KiB.
MAX_HEAD_BYTES = 64 * 1024
MAX_LINE_BYTES = 16 * 1024
MAX_FIELDS = 256

# Above this many outstanding bytes of a fixed-length body the parser is left out:
# the bytes are counted and passed on as they came, which saves a copy of each.
_COUNT_FROM = 16 * 1024

# RFC 3986 3.2: host and port, no user information, nothing that a log or an
# HTTP/1 line could be split with.
_AUTHORITY = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::\d{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:(https?|wss?))://([^/?#]*)([^#]*)")
_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?i)timeout\s*=\s*(\d{1,6})")

_CHUNKED_PREAMBLE = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class H1Error(Exception):
    """The peer's bytes are no HTTP/1.1. `status` is what to answer to a client."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Sink(Protocol):
    """Who hears what a decoder found. `end` or `on_message_end` comes once a message."""

    def on_message_head(self, head: Any, end: bool) -> None:
        """A request head or a final response head."""

    def on_message_data(self, data: bytes, end: bool) -> None:
        """Body bytes."""

    def on_message_end(self, trailers: Headers) -> None:
        """The end that was not told with head or data; trailers may be empty."""


class ResponseSink(Sink, Protocol):
    """A sink that also hears of 1xx responses."""

    def on_informational_head(self, head: ResponseHead) -> None:
        """A 1xx response other than 101."""


class _Decoder:
    """What both directions share: limits, body counting, ends."""

    __slots__ = (
        "_counting",
        "_ended",
        "_fed",
        "_fields",
        "_in_body",
        "_in_trailers",
        "_parser",
        "_raw",
        "_remaining",
        "_sink",
        "_size",
        "keep_alive",
    )

    _parser: Any
    _sink: Any  # a Sink; ResponseDecoder's is a ResponseSink

    def __init__(self) -> None:
        self._fields: Headers = []
        self._fed = 0  # bytes fed since the last head was complete, while in a head
        self._size = 0  # bytes of the fields of this head
        self._in_body = False
        self._in_trailers = False
        self._ended = True
        self._remaining = 0  # of a fixed-length body; -1 when chunked or until close
        self._counting = False
        self._raw = False
        self.keep_alive = True
        self._new_parser()

    def _new_parser(self) -> None:
        raise NotImplementedError

    def _parse(self, data: bytes) -> None:
        """Feed the parser, turning its errors into ours."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._after_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, H1Error):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            raise self._protocol_error(str(error)) from None

    def _protocol_error(self, message: str) -> H1Error:
        return H1Error(message)

    def _after_upgrade(self, rest: bytes) -> None:
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the peer; H1Error when they are wrong."""
        if self._raw:
            self._sink.on_message_data(data, False)
            return
        if self._counting:
            data = self._count(data)
            if not data:
                return
        if not self._in_body:
            self._fed += len(data)
        self._parse(data)
        if not self._in_body:
            if self._fed > MAX_HEAD_BYTES:
                raise H1Error("header fields are too large", 431)
        elif self._remaining > _COUNT_FROM and not self._raw:
            self._counting = True

    def _count(self, data: bytes) -> bytes:
        """Pass on bytes of a fixed-length body; what is left over is the next message."""
        size = len(data)
        if size < self._remaining:
            self._remaining -= size
            self._sink.on_message_data(data, False)
            return b""
        rest = data[self._remaining :]
        body = data if not rest else data[: self._remaining]
        self._counting = False
        keep_alive = self.keep_alive
        self._new_parser()  # the old one stands in the middle of a body
        self._finish_message()
        self._sink.on_message_data(body, True)
        if rest and not keep_alive:
            raise H1Error("data after a message that said Connection: close")
        return rest

    def _finish_message(self) -> None:
        self._ended = True
        self._in_body = False
        self._in_trailers = False
        self._remaining = 0
        self._fed = 0
        self._size = 0

    # Callbacks of httptools, named as it wants them.

    def on_message_begin(self) -> None:
        self._fields = []
        self._size = 0
        self._ended = False

    def on_header(self, name: bytes, value: bytes) -> None:
        fields = self._fields
        fields.append((name.lower(), value.rstrip(b" \t")))
        if len(fields) > MAX_FIELDS:
            raise H1Error("too many header fields", 431)
        if self._in_body:
            self._size += len(name) + len(value)
            if self._size > MAX_HEAD_BYTES:
                raise H1Error("trailer fields are too large", 431)

    def on_chunk_header(self) -> None:
        # The fields that follow the last chunk are trailers.
        self._fields = []

    def on_body(self, data: bytes) -> None:
        remaining = self._remaining
        if remaining < 0:
            self._sink.on_message_data(data, False)
            return
        remaining -= len(data)
        self._remaining = remaining
        if remaining > 0:
            self._sink.on_message_data(data, False)
        elif not self._ended:
            self._ended = True
            self._sink.on_message_data(data, True)
        else:
            raise H1Error("body bytes where no body may be")

    def on_message_complete(self) -> None:
        ended = self._ended
        trailers = self._fields if self._in_body and self._remaining < 0 else []
        self._finish_message()
        if not ended:
            self._sink.on_message_end(trailers)

    def _check_head_size(self) -> None:
        # Only when one read was larger than a head may be, the head is measured.
        if self._fed > MAX_HEAD_BYTES:
            size = sum(len(name) + len(value) + 4 for name, value in self._fields)
            if size > MAX_HEAD_BYTES:
                raise H1Error("header fields are too large", 431)


class RequestDecoder(_Decoder):
    """Requests of one downstream connection, pipelined ones in order.

    `version` is "1.1" or "1.0" and `keep_alive` whether the connection may serve
    another request; both are of the latest head.
    """

    __slots__ = ("_authority", "_held", "_holding", "_url", "version")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._url = b""
        self.version = "1.1"
        self._authority = b""  # the last one that was found right: it seldom changes
        self._held = b""
        self._holding = False
        super().__init__()

    def _new_parser(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        """Take bytes from the client; after an upgrade request they are held back."""
        if self._holding:
            self._held += data
            if len(self._held) > MAX_HEAD_BYTES:
                raise H1Error("too much data before the upgrade was answered")
            return
        super().feed(data)

    @property
    def holding(self) -> bool:
        """Whether an upgrade request waits for its answer."""
        return self._holding

    @property
    def awaiting_request(self) -> bool:
        """Whether nothing of a next request was read yet."""
        return self._ended and not self._holding

    def on_message_begin(self) -> None:
        self._url = b""
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > MAX_LINE_BYTES:
            raise H1Error("the request target is too long", 414)

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._check_head_size()
        self.version = version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise H1Error(f"HTTP/{version} is not spoken here", 505)
        self.keep_alive = parser.should_keep_alive()
        method = parser.get_method()
        host, length, upgrade, headers = self._sort_fields()
        path, authority, scheme = self._target(method, host)
        upgraded = parser.should_upgrade()
        if (upgraded and (upgrade in (b"h2c", b"") or length != 0) and method != b"CONNECT") or not upgraded:
            upgrade = b""
        head = RequestHead(method, path, authority, headers, scheme, length, upgrade)
        self._fields = []
        self._fed = 0
        self._in_body = True
        self._remaining = -1 if length is None else length
        end = length == 0 and not upgrade and method != b"CONNECT"
        self._holding = not end and length == 0
        self._ended = end
        self._sink.on_message_head(head, end)

    def _sort_fields(self) -> tuple[bytes | None, int | None, bytes, Headers]:
        """One pass: what the connection needs to know, and what is forwarded."""
        host: bytes | None = None
        length: int | None = 0
        upgrade = b""
        named: list[bytes] = []
        kept: Headers = []
        for pair in self._fields:
            name, value = pair
            if name not in HOP_BY_HOP:
                kept.append(pair)
                if name == b"content-length":
                    length = self._length(value)
            elif name == b"host":
                if host is not None:
                    raise H1Error("more than one Host field")
                host = value
            elif name == b"connection":
                named += tokens([pair], b"connection")
            elif name == b"transfer-encoding":
                if self.version == "1.0" or value.lower() != b"chunked" or length is None:
                    raise H1Error("the only transfer coding here is one `chunked`, in HTTP/1.1", 400)
                length = None
            elif name == b"upgrade":
                upgrade = value.strip().lower()
            elif name == b"te" and b"trailers" in tokens([pair], b"te"):
                kept.append((b"te", b"trailers"))
        if named:
            dropped = {name for name in named if name not in PROTECTED}
            # `Connection: te` is how HTTP/1 says TE; trailers are relayed, so it stays.
            kept = [pair for pair in kept if pair[0] not in dropped or pair[0] == b"te"]
        return host, length, upgrade, kept

    @staticmethod
    def _length(value: bytes) -> int:
        if not value.isdigit() or len(value) > 18:
            raise H1Error("Content-Length is no number that a body can have")
        return int(value)

    def _target(self, method: bytes, host: bytes | None) -> tuple[bytes, bytes, bytes]:
        """Path, authority and scheme of the request target (RFC 9112 3.2)."""
        if host is None and self.version == "1.1":
            raise H1Error("a request needs one Host field")
        url = self._url
        authority = host or b""
        path = url
        scheme = b"http"
        if method == b"CONNECT":
            authority, path = url, b""
            if not authority:
                raise H1Error("CONNECT needs host:port")
        elif not url.startswith(b"/") and url != b"*":
            absolute = _ABSOLUTE.fullmatch(url)
            if absolute is None:
                raise H1Error("the request target is neither a path nor an http(s) URL")
            # RFC 9112 3.2.2: absolute-form wins over Host, which is rewritten.
            scheme, authority, path = absolute[1].lower(), absolute[2], absolute[3]
            if not path.startswith(b"/"):
                path = b"/" + path
            if not authority:
                raise H1Error("the request target names no host")
        elif url == b"*" and method != b"OPTIONS":
            raise H1Error("the target * is for OPTIONS alone")
        if authority != self._authority:
            if _AUTHORITY.fullmatch(authority) is None:
                raise H1Error("the host is no host[:port]")
            self._authority = authority
        return path, authority, scheme

    def _after_upgrade(self, rest: bytes) -> None:
        # llhttp stops behind the head of every request that has Upgrade fields or
        # is a CONNECT, body or not. Those that may pass wait for their answer; the
        # body of the others is read as if the field were not there.
        if self._holding:
            self._held = rest
            return
        self._continue_body(rest)

    def _continue_body(self, rest: bytes) -> None:
        if self._remaining < 0:
            self._new_parser()
            sink, self._sink = self._sink, _DEAF
            keep = (self.keep_alive, self.version)
            body = (self._in_body, self._remaining)
            self._parser.feed_data(_CHUNKED_PREAMBLE)
            self._sink = sink
            self.keep_alive, self.version = keep
            self._in_body, self._remaining = body
            self._ended = False
        elif self._remaining > 0:
            self._counting = True
        else:
            self._new_parser()
            self._finish_message()
        if rest:
            self.feed(rest)

    def upgraded(self) -> None:
        """The answer was 101 (or 2xx to CONNECT): everything from here on is data."""
        self._raw = True
        self._holding = False
        held, self._held = self._held, b""
        if held:
            self._sink.on_message_data(held, False)

    def take_held(self) -> bytes:
        """The bytes behind a CONNECT, for whoever takes the connection over."""
        held, self._held = self._held, b""
        return held

    def refused(self) -> None:
        """The answer was no 101: what was held back is the next request."""
        self._holding = False
        self._new_parser()
        self._finish_message()
        held, self._held = self._held, b""
        if held:
            self.feed(held)


class ResponseDecoder(_Decoder):
    """Responses of one upstream connection, one per `expect`.

    `keep_alive` says whether the connection may carry another request once the
    message has ended; `idle_hint` is the server's `Keep-Alive: timeout` in
    seconds, or 0.
    """

    __slots__ = ("_bodyless", "_interims", "_reason", "_upgrading", "idle_hint", "until_close")

    def __init__(self, sink: ResponseSink) -> None:
        self._sink = sink
        self._reason = b""
        self._bodyless = False
        self._upgrading = False
        self._interims = 0  # 1xx heads in the bytes that are being parsed
        self.until_close = False
        self.idle_hint = 0
        super().__init__()

    def _new_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    @property
    def between_messages(self) -> bool:
        """Whether the last message was read to its end and nothing came behind it."""
        return self._ended and not self._raw and not self._in_body

    @property
    def tunnelled(self) -> bool:
        """Whether a 101 turned the connection into a pipe."""
        return self._raw

    def expect(self, head: RequestHead) -> None:
        """Say which request the next response answers."""
        self._bodyless = head.method == b"HEAD"
        self._upgrading = bool(head.upgrade)
        self.until_close = False

    def on_message_begin(self) -> None:
        self._reason = b""
        super().on_message_begin()

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._check_head_size()
        status = parser.get_status_code()
        if status < 200:
            self._on_interim(status)
            return
        if parser.get_http_version() not in ("1.1", "1.0"):
            raise H1Error("the server speaks another HTTP version")
        self.keep_alive = parser.should_keep_alive()
        length, headers = self._sort_fields()
        bodyless = self._bodyless or status == 204 or status == 304
        self._fields = []
        self._fed = 0
        self._in_body = True
        if bodyless:
            self._remaining = 0
        elif length is None:
            self._remaining = -1
        else:
            self._remaining = length
        end = self._remaining == 0
        self._ended = end
        head = ResponseHead(status, headers, 0 if bodyless and length is None else length, self._reason)
        self._sink.on_message_head(head, end)
        if self._bodyless and length != 0:
            # llhttp would wait for the body that a HEAD's answer only describes.
            raise _HeadOfBodyless

    def _parse(self, data: bytes) -> None:
        self._interims = 0
        try:
            super()._parse(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _HeadOfBodyless):
                raise
            # The head ends at the first empty line; nothing may follow it.
            self._new_parser()
            self._finish_message()
            if len(data) > _head_end(data, self._interims):
                raise H1Error("body bytes where no body may be") from None

    def _on_interim(self, status: int) -> None:
        self._interims += 1
        _, headers = self._sort_fields()
        self._fields = []
        self._fed = 0
        self._ended = True
        self._in_body = False
        head = ResponseHead(status, headers, 0, self._reason)
        if status != 101:
            self._sink.on_informational_head(head)
        elif self._upgrading and self._parser.should_upgrade():
            self._in_body = True
            self._sink.on_message_head(head, False)
        else:
            raise H1Error("101 to a request that asked for no upgrade")

    def _sort_fields(self) -> tuple[int | None, Headers]:
        length: int | None = None
        chunked = False
        named: list[bytes] = []
        kept: Headers = []
        for pair in self._fields:
            name, value = pair
            if name not in HOP_BY_HOP:
                kept.append(pair)
                if name == b"content-length":
                    length = RequestDecoder._length(value)
            elif name == b"connection":
                if value.lower() not in (b"keep-alive", b"close"):
                    named += tokens([pair], b"connection")
            elif name == b"transfer-encoding":
                if chunked or value.lower() != b"chunked":
                    raise H1Error("the only transfer coding here is one `chunked`")
                chunked = True
            elif name == b"keep-alive":
                hint = _KEEP_ALIVE_TIMEOUT.search(value)
                if hint:
                    self.idle_hint = int(hint[1])
            elif name == b"upgrade" and self._upgrading:
                kept.append(pair)
        if named:
            dropped = {name for name in named if name not in PROTECTED and name != b"upgrade"}
            kept = [pair for pair in kept if pair[0] not in dropped]
        self.until_close = length is None and not chunked
        return length, kept

    def _after_upgrade(self, rest: bytes) -> None:
        self._raw = True
        self._ended = False
        if rest:
            self._sink.on_message_data(rest, False)

    def eof(self) -> bool:
        """The server closed its side: whether that ended a message as it should.

        Tells the sink of the end of a close-delimited body or of a tunnel.
        """
        if self._raw or (self._in_body and self.until_close and not self._ended):
            self._finish_message()
            self._sink.on_message_end([])
            return True
        return False


class _HeadOfBodyless(Exception):  # noqa: N818 - it is a way out of a callback, not an error
    """Stops llhttp behind the head of an answer to HEAD."""


class _Deaf:
    """Hears nothing: the made-up head that puts a parser into a chunked body."""

    def on_message_head(self, head: Any, end: bool) -> None:
        """Not told to anybody."""

    def on_message_data(self, data: bytes, end: bool) -> None:
        """Not told to anybody."""

    def on_message_end(self, trailers: Headers) -> None:
        """Not told to anybody."""


_DEAF = _Deaf()


def _head_end(data: bytes, interims: int) -> int:
    """Where the final head in `data` ends, behind so many 1xx heads."""
    end = 0
    for _ in range(interims + 1):
        place = data.find(b"\r\n\r\n", end)
        if place < 0:
            return len(data)  # the head began in an earlier read
        end = place + 4
    return end


_STATUS_LINES = {
    status: f"HTTP/1.1 {status} {phrase}\r\n".encode()
    for status, phrase in (
        (200, "OK"),
        (201, "Created"),
        (204, "No Content"),
        (301, "Moved Permanently"),
        (302, "Found"),
        (304, "Not Modified"),
        (400, "Bad Request"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (404, "Not Found"),
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (429, "Too Many Requests"),
        (431, "Request Header Fields Too Large"),
        (500, "Internal Server Error"),
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
        (504, "Gateway Timeout"),
        (505, "HTTP Version Not Supported"),
    )
}

# Methods whose request without a body says nothing of a length (RFC 9110 8.6).
_BODYLESS_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE", b"CONNECT"))


def encode_request(head: RequestHead, end: bool) -> tuple[bytes, bool]:
    """The bytes of a request head, and whether its body is to be chunked."""
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (head.method, head.path, head.authority)]
    lines += [b"%b: %b\r\n" % pair for pair in head.headers]
    chunked = False
    if head.upgrade:
        lines.append(b"connection: upgrade\r\nupgrade: %b\r\n" % head.upgrade)
    elif not end and head.length is None:
        chunked = True
        lines.append(b"transfer-encoding: chunked\r\n")
    elif end and head.method not in _BODYLESS_METHODS and not _has(head.headers, b"content-length"):
        lines.append(b"content-length: 0\r\n")
    if _has(head.headers, b"te"):
        lines.append(b"connection: te\r\n")
    lines.append(b"\r\n")
    return b"".join(lines), chunked


def encode_response(head: ResponseHead, end: bool, chunkable: bool, connection: bytes) -> tuple[bytes, bool]:
    """The bytes of a response head, and whether its body is to be chunked.

    `chunkable` is False for an HTTP/1.0 client, and where no body may follow;
    `connection` is the value of a Connection field to add, or empty.
    """
    status = head.status
    line = _STATUS_LINES.get(status)
    if line is None or (head.reason and not line.endswith(b" %b\r\n" % head.reason)):
        line = b"HTTP/1.1 %d %b\r\n" % (status, head.reason)
    lines = [line]
    lines += [b"%b: %b\r\n" % pair for pair in head.headers]
    chunked = False
    if not end and head.length is None and chunkable and status >= 200:
        chunked = True
        lines.append(b"transfer-encoding: chunked\r\n")
    elif end and head.length is None and status >= 200 and status != 204 and status != 304:
        lines.append(b"content-length: 0\r\n")
    if connection:
        lines.append(b"connection: %b\r\n" % connection)
    lines.append(b"\r\n")
    return b"".join(lines), chunked


def encode_trailers(trailers: Headers) -> bytes:
    """The last chunk and the trailer section."""
    return b"".join([b"0\r\n", *[b"%b: %b\r\n" % pair for pair in trailers], b"\r\n"])


def _has(headers: Headers, name: bytes) -> bool:
    return any(pair[0] == name for pair in headers)
