"""Requests as a server reads them (RFC 9112)."""

import re
from typing import Final

import httptools

from sidecar.codec.authority import AUTHORITY
from sidecar.codec.fields import MISSPELLED, SPECIAL, protected
from sidecar.codec.h1.chunks import Chunked
from sidecar.codec.h1.decoder import CHUNKED, COUNTED, END, HELD, RAW, STOPPED, TOLD, TOLD_AT, Decoder, HeadEnds, Scout
from sidecar.codec.h1.encoding import TE
from sidecar.codec.h1.limits import MAX_FIELDS, MAX_HEAD_BYTES, MAX_LINE_BYTES, H1Error, length_of
from sidecar.codec.h1.sink import Sink
from sidecar.model.head import RequestHead
from sidecar.model.headers import Headers, tokens

# A message begins with a method, one space, a target, one space and this (RFC 9112 3). llhttp
# lets there be more spaces, and RTSP/ and ICE/: what another server makes of them, nobody knows.
_PROTOCOL: Final = b" HTTP/"
_LOOKED_AT: Final = SPECIAL | MISSPELLED
_LENGTH: Final = re.compile(rb"(?i)\ncontent-length:[ \t]*(\d+)")
_ABSOLUTE: Final = re.compile(rb"(?i:(https?|wss?))://([^/?#]*)([^#]*)")


class RequestDecoder(Decoder):
    """Requests of one downstream connection, pipelined ones in order.

    `version` is "1.1" or "1.0", empty before there was a request, and `keep_alive` whether the connection may serve
    another request; both are of the latest head.
    """

    __slots__ = ("_authority", "_chunks", "_held", "_url", "scheme", "version")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._url = b""
        self.version = ""
        self.scheme = b"http"  # of requests that do not say it: how the connection is made
        self._authority = b""  # the last one that was found right: it seldom changes
        self._held = b""
        self._chunks: Chunked | None = None
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
        return self._mode == HELD

    @property
    def awaiting_request(self) -> bool:
        """Whether nothing of a next request was read yet."""
        return self._ended and not self._begun and not self.holding

    @property
    def in_head(self) -> bool:
        """Whether a head was begun, and its end is not there yet."""
        return self._begun

    @property
    def body_left(self) -> int:
        """Bytes of the body that are still to come; -1 when nobody knows."""
        return self._remaining

    def on_url(self, url: bytes) -> None:
        self._url = whole = self._url + url
        if len(whole) > MAX_LINE_BYTES:
            raise H1Error("the request target is too long", 414)

    def on_headers_complete(self) -> None:
        parser = self._parser
        fields = self._fields
        method = parser.get_method()
        url = self._url
        size = len(method) + 1 + len(url)
        if self._fed > MAX_HEAD_BYTES or len(fields) > MAX_FIELDS or not self._read.startswith(_PROTOCOL, size):
            self._look_closely(size)
        else:
            self._fed = TOLD
        self._begun = False
        self.keep_alive = keep_alive = parser.should_keep_alive()
        host = None
        length: int | None = 0
        kept: Headers = []
        special: Headers = []
        for pair in fields:
            name = pair[0]
            if name not in _LOOKED_AT:
                kept.append(pair)
            elif name == b"host":
                if host is not None:
                    raise H1Error("more than one Host field")
                host = pair[1]
            elif name == b"content-length":
                length = length_of(pair[1])
                kept.append(pair)
            else:
                special.append(pair)
        upgrade = b""
        if special or not keep_alive:
            # Only 1.1 is kept alive without a word about it.
            self.version = parser.get_http_version()
            _check_version(self.version)
            length, upgrade, kept = self._read_special(special, kept, length)
        else:
            self.version = "1.1"
        scheme = self.scheme
        if method == b"CONNECT" or not url.startswith(b"/") or host is None or url.find(b"#") >= 0:
            path, host, scheme = self._unusual_target(method, url, host)
        else:
            path = url
        if host != self._authority:
            if AUTHORITY.fullmatch(host) is None:
                raise H1Error("the host is no host[:port]")
            self._authority = host
        fields.clear()
        self._url = b""
        self._ended = end = length == 0 and not upgrade and method != b"CONNECT"
        if not end:
            self._expect_more(length)
        self._sink.on_message_head(RequestHead(method, path, host, kept, scheme, length, upgrade), end)
        if length is None:
            raise HeadEnds  # chunks are not for llhttp

    def _look_closely(self, size: int) -> None:
        """At a head that is large, has something before it in its read, or is not as it should.
        `size` is that of a method, a space and the target."""
        self._check_head_size()
        self._place = place = self._head_begins()
        self._fed = TOLD_AT
        if not self._read.startswith(_PROTOCOL, place + size):
            raise H1Error("the start line is not a method, a space, a target, a space and HTTP/1.1")

    def _length_of_body(self, head: bytes) -> int:
        found = _LENGTH.search(head)
        return int(found[1]) if found else 0

    def _expect_more(self, length: int | None) -> None:
        self._remaining = -1 if length is None else length
        if self._mode != STOPPED and self._parser.should_upgrade():  # a CONNECT as well
            if length != 0:
                raise H1Error("CONNECT has no body")  # RFC 9110 9.3.6
            self._mode = HELD

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
            elif name in MISSPELLED:
                raise H1Error("a field that some take for one of the body's framing")
            elif name == b"te" and b"trailers" in tokens([pair], b"te"):
                kept.append(TE)
        if named:
            # `Connection: te` is how HTTP/1 says TE; trailers are relayed, so it stays.
            dropped = {name for name in named if name != b"te" and not protected(name)}
            kept = [pair for pair in kept if pair[0] not in dropped]
        upgrade = b""
        if upgrades and self._parser.should_upgrade():
            if length == 0 and self.version == "1.1":  # RFC 9110 7.8: 1.0 has no Upgrade
                upgrade = b", ".join([each for each in upgrades if each != b"h2c"])
            if not upgrade:
                self._mode = STOPPED
        return length, upgrade, kept

    def _unusual_target(self, method: bytes, url: bytes, host: bytes | None) -> tuple[bytes, bytes, bytes]:
        """Path, authority and scheme of a target that is no path (RFC 9112 3.2)."""
        if host is None and self.version == "1.1":
            raise H1Error("a request needs one Host field")
        if host is not None and AUTHORITY.fullmatch(host) is None:
            raise H1Error("the host is no host[:port]")  # even where it is not used (RFC 9112 3.2)
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
        if not path and method == b"OPTIONS":
            path = b"*"  # RFC 9112 3.2.4
        elif not path.startswith(b"/"):
            path = b"/" + path
        return path, absolute[2], absolute[1].lower()

    def _go_on(self, data: bytes) -> None:
        if self._begun and not self.version:
            version = self._parser.get_http_version()
            # HTTP/0.9 has no head to wait for, and one request a connection.
            if version != "0.0" or b"\n" in data.lstrip(b"\r\n"):
                _check_version(version)
        super()._go_on(data)

    def _head_end(self, data: bytes) -> int:
        if data[:1].isalpha():
            end = data.find(END) + 4
            if b"\ntransfer-encoding:" in data[:end].lower():
                return end  # the usual case: the first head is the one
        return Scout(httptools.HttpRequestParser).head_end(data)

    def _behind_head(self, rest: bytes) -> bytes:
        self._chunks = Chunked(self._sink.on_message_data)
        self._mode = CHUNKED
        return rest

    def _feed_chunks(self, data: bytes) -> bytes:
        chunks = self._chunks
        assert chunks is not None
        rest = chunks.feed(data)
        if rest is None:
            return b""
        self._chunks = None
        self._new_parser()
        self._finish_message()
        self._sink.on_message_end(chunks.trailers)
        return rest

    def _after_upgrade(self, rest: bytes) -> bytes:
        # llhttp stops behind the head of every request that has Upgrade fields or
        # is a CONNECT, body or not. Those that may pass wait for their answer; the
        # body of the others is read as if the field were not there.
        if self._mode == HELD:
            self._keep_apart(rest)
            return b""
        if self._mode == STOPPED:
            self._new_parser()
            if self._remaining:
                self._mode = COUNTED
            else:
                self._finish_message()
        return rest

    def upgraded(self) -> None:
        """The answer was 101 (or 2xx to CONNECT): everything from here on is data."""
        self._mode = RAW
        held, self._held = self._held, b""
        if held:
            self._sink.on_message_data(held, False)

    def take_held(self) -> bytes:
        """The bytes behind a CONNECT, for whoever takes the connection over."""
        held, self._held = self._held, b""
        return held

    def refused(self) -> None:
        """The answer was no 101: what was held back is the next request."""
        self._new_parser()
        self._finish_message()
        held, self._held = self._held, b""
        if held:
            self.feed(held)


def _check_version(version: str) -> None:
    if version not in ("1.1", "1.0"):
        raise H1Error(f"HTTP/{version} is not spoken here")
