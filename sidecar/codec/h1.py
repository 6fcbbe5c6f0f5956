"""HTTP/1.1 messages (RFC 9112), sans-io: bytes to heads, data and ends, and back.

llhttp (through httptools, always strict) does the parsing. What it leaves to its
user lives here: size limits, Host rules, hop-by-hop fields, and where a body
ends when the head alone does not say so (HEAD, close-delimited, upgrades).

A decoder is given a Sink and tells it of messages while `feed` runs. Once `feed`
has raised H1Error the connection is finished. The only importer of httptools.
"""

import re
from http import HTTPStatus
from typing import Any, Protocol

import httptools

from sidecar.codec.fields import PROTECTED, SPECIAL
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
_KEEP_ALIVE = (b"connection", b"keep-alive")
_KEEP_ALIVE_TIMEOUT = re.compile(rb"(?i)timeout\s*=\s*(\d{1,6})")

# How a decoder takes its bytes: by llhttp, counted off a fixed-length body, as the
# raw bytes of a tunnel, held back until an upgrade is answered, or head by head
# because no body may follow; _STOPPED while llhttp leaves an upgrade that may not pass.
_PARSED, _COUNTED, _RAW, _HELD, _HEADS, _STOPPED = 0, 1, 2, 3, 4, 5

# One call into C for each field of a head.
_line = b": ".join
# The empty line behind the last field, and the end of that line.
_END = (b"", b"")
# The only `TE` that a decoder lets through.
_TE = (b"te", b"trailers")

# What llhttp's feed raises: bad bytes, our own refusals, and the end of HTTP.
_STOPS = (httptools.HttpParserError, httptools.HttpParserUpgrade)

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
        "_add",
        "_ended",
        "_fed",
        "_fields",
        "_in_body",
        "_mode",
        "_parser",
        "_remaining",
        "_sink",
        "keep_alive",
    )

    _parser: Any
    _sink: Any  # a Sink; ResponseDecoder's is a ResponseSink

    def __init__(self) -> None:
        # Fields of the head, or trailers, that is being read; `_add` is its append.
        self._fields: Headers = []
        self._add = self._fields.append
        self._fed = 0  # bytes that were fed since the last message, or body byte of one
        self._in_body = False
        self._ended = True  # the end of the message was told
        self._remaining = 0  # of a fixed-length body; -1 when chunked or until close
        self._mode = _PARSED
        self.keep_alive = True
        self._new_parser()

    def _new_parser(self) -> None:
        raise NotImplementedError

    def _after_upgrade(self, rest: bytes) -> bytes:
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the peer; H1Error when they are wrong."""
        if self._mode:
            data = self._feed_unparsed(data)
            if not data:
                return
        self._fed += len(data)
        rest = b""
        try:
            self._parser.feed_data(data)
        except _STOPS as error:
            rest = self._stopped(error, data)
        while rest:  # not while the exception is handled: it would become the context of the next
            rest = self._feed_rest(rest)
        if self._in_body:
            if self._remaining > _COUNT_FROM and not self._mode:
                self._mode = _COUNTED
            elif self._fed > MAX_HEAD_BYTES and self._remaining < 0:
                raise H1Error("trailer fields or chunk extensions are too large", 431)
        elif self._fed > MAX_HEAD_BYTES:
            raise H1Error("header fields are too large", 431)

    def _feed_rest(self, data: bytes) -> bytes:
        """What came behind an upgrade that may not pass; what comes behind the next one.
        A loop over this, and no recursion: a client may send a thousand in one read."""
        if self._mode:
            data = self._feed_unparsed(data)
        if data:
            self._fed += len(data)
            try:
                self._parser.feed_data(data)
            except _STOPS as error:
                return self._stopped(error, data)
        return b""

    def _stopped(self, error: Exception, data: bytes) -> bytes:
        """Why llhttp did not take everything: an upgrade, our own refusal, or bad bytes.
        Gives back what is to be fed again."""
        if isinstance(error, httptools.HttpParserUpgrade):
            return self._after_upgrade(data[error.args[0] :])
        if isinstance(error, httptools.HttpParserCallbackError):
            if isinstance(error.__context__, H1Error):
                raise error.__context__ from None
            raise error
        raise H1Error(str(error)) from None

    def _feed_unparsed(self, data: bytes) -> bytes:
        """Bytes of a tunnel or of a counted body; what is left over is the next message."""
        if self._mode == _RAW:
            self._sink.on_message_data(data, False)
            return b""
        if self._mode != _COUNTED:
            self._keep_apart(data)
            return b""
        size = len(data)
        if size < self._remaining:
            self._remaining -= size
            self._sink.on_message_data(data, False)
            return b""
        rest = data[self._remaining :]
        body = data if not rest else data[: self._remaining]
        self._mode = _PARSED
        keep_alive = self.keep_alive
        self._new_parser()  # the old one stands in the middle of a body
        self._finish_message()
        self._sink.on_message_data(body, True)
        if rest and not keep_alive:
            raise H1Error("data after a message that said Connection: close")
        return rest

    def _keep_apart(self, data: bytes) -> None:
        raise NotImplementedError

    def _finish_message(self) -> None:
        self._ended = True
        self._in_body = False
        self._fed = 0
        self._fields.clear()

    def _check_head_size(self) -> None:
        """Measure a head that came in a read larger than a head may be."""
        if len(self._fields) > MAX_FIELDS:
            raise H1Error("too many header fields", 431)
        if sum(len(name) + len(value) + 4 for name, value in self._fields) > MAX_HEAD_BYTES:
            raise H1Error("header fields are too large", 431)

    # Callbacks of httptools, named as it wants them.

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp lets no other white space than space and tab into a value.
        self._add((name.lower(), value.rstrip()))

    def on_body(self, data: bytes) -> None:
        remaining = self._remaining
        if remaining < 0:
            self._fed = 0
            self._sink.on_message_data(data, False)
            return
        self._remaining = remaining = remaining - len(data)
        if remaining > 0:
            self._sink.on_message_data(data, False)
        elif not self._ended:
            self._ended = True
            self._sink.on_message_data(data, True)
        else:
            raise H1Error("body bytes where no body may be")

    def on_message_complete(self) -> None:
        if self._mode:
            return  # llhttp takes the head of an upgrade for a whole message
        self._in_body = False
        self._fed = 0
        if not self._ended:
            self._ended = True
            trailers = self._fields.copy()
            self._fields.clear()
            if len(trailers) > MAX_FIELDS:
                raise H1Error("too many trailer fields", 431)
            self._sink.on_message_end(trailers)


class RequestDecoder(_Decoder):
    """Requests of one downstream connection, pipelined ones in order.

    `version` is "1.1" or "1.0" and `keep_alive` whether the connection may serve
    another request; both are of the latest head.
    """

    __slots__ = ("_authority", "_held", "_url", "scheme", "version")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._url = b""
        self.version = "1.1"
        self.scheme = b"http"  # of requests that do not say it: how the connection is made
        self._authority = b""  # the last one that was found right: it seldom changes
        self._held = b""
        super().__init__()

    def _new_parser(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def _keep_apart(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > MAX_HEAD_BYTES:
            raise H1Error("too much data before the upgrade was answered")

    @property
    def holding(self) -> bool:
        """Whether an upgrade request waits for its answer."""
        return self._mode == _HELD

    @property
    def awaiting_request(self) -> bool:
        """Whether nothing of a next request was read yet."""
        return self._ended and not self._url and not self._fields and not self.holding

    @property
    def body_left(self) -> int:
        """Bytes of the body that are still to come; -1 when nobody knows."""
        return self._remaining

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > MAX_LINE_BYTES:
            raise H1Error("the request target is too long", 414)

    def on_headers_complete(self) -> None:
        parser = self._parser
        fields = self._fields
        if self._fed > MAX_HEAD_BYTES or len(fields) > MAX_FIELDS:
            self._check_head_size()
        method = parser.get_method()
        self.keep_alive = keep_alive = parser.should_keep_alive()
        host = None
        length: int | None = 0
        kept: Headers = []
        special: Headers = []
        for pair in fields:
            name = pair[0]
            if name not in SPECIAL:
                kept.append(pair)
            elif name == b"host":
                if host is not None:
                    raise H1Error("more than one Host field")
                host = pair[1]
            elif name == b"content-length":
                length = _length(pair[1])
                kept.append(pair)
            else:
                special.append(pair)
        upgrade = b""
        if special or not keep_alive:
            # Only 1.1 is kept alive without a word about it.
            self.version = parser.get_http_version()
            if self.version not in ("1.1", "1.0"):
                raise H1Error(f"HTTP/{self.version} is not spoken here", 505)
            length, upgrade, kept = self._read_special(special, kept, length)
        else:
            self.version = "1.1"
        url = self._url
        scheme = self.scheme
        if method == b"CONNECT" or not url.startswith(b"/") or host is None or b"#" in url:
            path, host, scheme = self._unusual_target(method, url, host)
        else:
            path = url
        if host != self._authority:
            if _AUTHORITY.fullmatch(host) is None:
                raise H1Error("the host is no host[:port]")
            self._authority = host
        fields.clear()
        self._url = b""
        self._fed = 0
        self._in_body = True
        self._remaining = -1 if length is None else length
        self._ended = end = length == 0 and not upgrade and method != b"CONNECT"
        if not end and (upgrade or method == b"CONNECT"):
            if length != 0:
                raise H1Error("CONNECT has no body")  # RFC 9110 9.3.6
            self._mode = _HELD
        self._sink.on_message_head(RequestHead(method, path, host, kept, scheme, length, upgrade), end)

    def _read_special(self, special: Headers, kept: Headers, length: int | None) -> tuple[int | None, bytes, Headers]:
        """Fields of this connection alone: framing, upgrade, and what Connection names."""
        upgrades: list[bytes] = []
        named: list[bytes] = []
        for pair in special:
            name, value = pair
            if name == b"connection":
                named += tokens([pair], b"connection")
            elif name == b"transfer-encoding":
                if self.version == "1.0" or value.lower() != b"chunked" or length is None:
                    raise H1Error("the only transfer coding here is one `chunked`, in HTTP/1.1")
                length = None
            elif name == b"upgrade":
                upgrades += tokens([pair], b"upgrade")
            elif name == b"te" and b"trailers" in tokens([pair], b"te"):
                kept.append(_TE)
        if named:
            # `Connection: te` is how HTTP/1 says TE; trailers are relayed, so it stays.
            dropped = {name for name in named if name not in PROTECTED and name != b"te"}
            kept = [pair for pair in kept if pair[0] not in dropped]
        upgrade = b""
        if upgrades and self._parser.should_upgrade():
            if length == 0 and self.version == "1.1":  # RFC 9110 7.8: 1.0 has no Upgrade
                upgrade = b", ".join([each for each in upgrades if each != b"h2c"])
            if not upgrade:
                self._mode = _STOPPED
        return length, upgrade, kept

    def _unusual_target(self, method: bytes, url: bytes, host: bytes | None) -> tuple[bytes, bytes, bytes]:
        """Path, authority and scheme of a target that is no path (RFC 9112 3.2)."""
        if host is None and self.version == "1.1":
            raise H1Error("a request needs one Host field")
        if method == b"CONNECT":
            if not url.rpartition(b":")[2].isdigit():
                raise H1Error("CONNECT needs host:port")
            return b"", url, b"http"
        if b"#" in url:
            raise H1Error("the request target has a fragment")
        if url.startswith(b"/") or (url == b"*" and method == b"OPTIONS"):
            return url, host or b"", self.scheme
        absolute = _ABSOLUTE.fullmatch(url)
        if absolute is None or not absolute[2]:
            raise H1Error("the request target is neither a path nor an http(s) URL")
        # RFC 9112 3.2.2: absolute-form wins over Host, which is rewritten.
        path = absolute[3]
        return path if path.startswith(b"/") else b"/" + path, absolute[2], absolute[1].lower()

    def _after_upgrade(self, rest: bytes) -> bytes:
        # llhttp stops behind the head of every request that has Upgrade fields or
        # is a CONNECT, body or not. Those that may pass wait for their answer; the
        # body of the others is read as if the field were not there.
        if self._mode != _STOPPED:
            self._held = rest
            return b""
        self._mode = _PARSED
        if self._remaining < 0:
            self._enter_chunked_body()
        elif self._remaining > 0:
            self._mode = _COUNTED
        else:
            self._new_parser()
            self._finish_message()
        return rest

    def _enter_chunked_body(self) -> None:
        """Put a new parser into the body by way of a made-up head."""
        sink, self._sink = self._sink, _DEAF
        keep = (self.keep_alive, self.version, self._authority)
        self._new_parser()
        self._parser.feed_data(_CHUNKED_PREAMBLE)
        self.keep_alive, self.version, self._authority = keep
        self._sink = sink

    def upgraded(self) -> None:
        """The answer was 101 (or 2xx to CONNECT): everything from here on is data."""
        self._mode = _RAW
        held, self._held = self._held, b""
        if held:
            self._sink.on_message_data(held, False)

    def take_held(self) -> bytes:
        """The bytes behind a CONNECT, for whoever takes the connection over."""
        held, self._held = self._held, b""
        return held

    def refused(self) -> None:
        """The answer was no 101: what was held back is the next request."""
        self._mode = _PARSED
        self._new_parser()
        self._finish_message()
        held, self._held = self._held, b""
        if held:
            self.feed(held)


class ResponseDecoder(_Decoder):
    """Responses of one upstream connection, one per `expect`.

    `keep_alive` says whether the connection may carry another request once the
    message has ended; `idle_hint` is the server's `Keep-Alive: timeout` in
    seconds, or 0; `until_close` that only the end of the connection ends the body.
    """

    __slots__ = ("_bodyless", "_tail", "_upgrading", "idle_hint", "until_close")

    def __init__(self, sink: ResponseSink) -> None:
        self._sink = sink
        self._bodyless = False
        self._upgrading = False
        self._tail = b""  # up to three bytes of a head whose end is looked for
        self.until_close = False
        self.idle_hint = 0
        super().__init__()

    def _new_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    @property
    def between_messages(self) -> bool:
        """Whether the last message was read to its end and nothing came behind it."""
        return not self._in_body and self._ended and not self._fed and not self._fields and self._mode == _PARSED

    @property
    def untouched(self) -> bool:
        """Whether no byte came since the last head or message."""
        return not self._fed

    @property
    def tunnelled(self) -> bool:
        """Whether a 101 turned the connection into a pipe."""
        return self._mode == _RAW

    def expect(self, head: RequestHead) -> None:
        """Say which request the next response answers."""
        self._bodyless = head.method == b"HEAD"
        self._upgrading = bool(head.upgrade)
        if self._bodyless:
            self._mode = _HEADS
            self._tail = b""

    def on_headers_complete(self) -> None:
        parser = self._parser
        fields = self._fields
        if self._fed > MAX_HEAD_BYTES or len(fields) > MAX_FIELDS:
            self._check_head_size()
        status = parser.get_status_code()
        self.keep_alive = keep_alive = parser.should_keep_alive()
        length: int | None = None
        kept: Headers = []
        special: Headers = []
        for pair in fields:
            name = pair[0]
            if name not in SPECIAL:
                kept.append(pair)
            elif name == b"content-length":
                length = _length(pair[1])
                kept.append(pair)
            elif pair != _KEEP_ALIVE:
                special.append(pair)
        chunked = False
        if special:
            chunked, kept = self._read_special(special, kept)
        if not keep_alive and parser.get_http_version() not in ("1.1", "1.0"):
            raise H1Error("the server speaks another HTTP version")
        fields.clear()
        if status < 200 or status == 204:
            kept = [pair for pair in kept if pair[0] != b"content-length"]  # RFC 9110 8.6
            if status < 200:
                self._on_interim(status, kept)
                return
        if chunked and parser.get_http_version() == "1.0":
            self.keep_alive = False  # RFC 9112 6.1: such framing is not to be trusted
        self._fed = 0
        self._in_body = True
        bodyless = self._bodyless or status == 204 or status == 304
        self.until_close = length is None and not chunked and not bodyless
        self._remaining = 0 if bodyless else -1 if length is None else length
        self._ended = end = self._remaining == 0
        described = length
        if bodyless and length is None:
            length = 0
        self._sink.on_message_head(ResponseHead(status, kept, length), end)
        if self._bodyless:
            self._bodyless = False
            if described != 0 and status != 204 and status != 304:
                # llhttp would wait for the body that a HEAD's answer only describes.
                raise _HeadOfBodyless

    def _read_special(self, special: Headers, kept: Headers) -> tuple[bool, Headers]:
        """Fields of this connection alone; whether the body is chunked, and what stays."""
        chunked = False
        named: list[bytes] = []
        for pair in special:
            name, value = pair
            if name == b"connection":
                if value.lower() != b"close":
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
        return chunked, kept

    def _on_interim(self, status: int, headers: Headers) -> None:
        if status < 100:
            raise H1Error("a status has three digits and is at least 100")
        self._ended = True
        head = ResponseHead(status, headers, 0)
        if status != 101:
            self._sink.on_informational_head(head)
        elif self._upgrading and self._parser.should_upgrade():
            self._in_body = True
            self._sink.on_message_head(head, False)
        else:
            raise H1Error("101 to a request that asked for no upgrade")

    def _keep_apart(self, data: bytes) -> None:
        # llhttp does not say where a head ended, and with the final one everything
        # ends: so it is fed one head at a time. A head ends at its first empty line.
        while data:
            joined = self._tail + data
            place = joined.find(b"\r\n\r\n")
            cut = len(data) if place < 0 else place + 4 - len(self._tail)
            self._tail = joined[-3:] if place < 0 else b""
            self._mode = _PARSED
            self.feed(data[:cut])
            data = data[cut:]
            if self._bodyless:
                self._mode = _HEADS
            elif data:
                raise H1Error("body bytes where no body may be")

    def _stopped(self, error: Exception, data: bytes) -> bytes:
        if isinstance(error.__context__, _HeadOfBodyless):
            self._new_parser()
            self._finish_message()
            return b""
        return super()._stopped(error, data)

    def _after_upgrade(self, rest: bytes) -> bytes:
        self._mode = _RAW
        self._ended = False
        if rest:
            self._sink.on_message_data(rest, False)
        return b""

    def eof(self) -> bool:
        """The server closed its side: whether that ended a message as it should.

        Tells the sink of the end of a close-delimited body or of a tunnel.
        """
        if self._mode == _RAW or (self._in_body and self.until_close and not self._ended):
            self._finish_message()
            self._sink.on_message_end([])
            return True
        return False


def _length(value: bytes) -> int:
    """A Content-Length (RFC 9110 8.6); 18 digits are more than any body has."""
    if not value.isdigit() or len(value) > 18:
        raise H1Error("Content-Length is no number that a body can have")
    return int(value)


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
    if _TE in headers:
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
    """The last chunk and the trailer section."""
    return b"\r\n".join([b"0", *map(_line, trailers), *_END])


def _has(headers: Headers, name: bytes) -> bool:
    return any(pair[0] == name for pair in headers)
