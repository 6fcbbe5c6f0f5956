"""Responses as a client reads them (RFC 9112)."""

import re
from typing import Final

import httptools

from sidecar.codec.fields import SPECIAL, protected
from sidecar.codec.h1.chunks import checked_trailers
from sidecar.codec.h1.decoder import PARSED, RAW, TOLD, TOLD_AT, Decoder, FinalScout, HeadEnds
from sidecar.codec.h1.limits import MAX_FIELDS, MAX_HEAD_BYTES, H1Error, length_of
from sidecar.codec.h1.sink import ResponseSink
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.headers import Headers, tokens

_PROTOCOL: Final = b"HTTP/"
_KEEP_ALIVE: Final = (b"connection", b"keep-alive")
_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"(?i)timeout\s*=\s*(\d{1,6})")


class ResponseDecoder(Decoder):
    """Responses of one upstream connection, one per `expect`.

    `keep_alive` says whether the connection may carry another request once the
    message has ended; `idle_hint` is the server's `Keep-Alive: timeout` in
    seconds, or 0; `until_close` that only the end of the connection ends the body.
    """

    __slots__ = ("_bodyless", "_silent", "_upgrading", "idle_hint", "until_close")

    def __init__(self, sink: ResponseSink) -> None:
        self._sink = sink
        self._bodyless = False
        self._upgrading = b""  # to what the request wants to be upgraded
        self._silent = 0  # bytes of a chunked body that were no data, since there was some
        self.until_close = False
        self.idle_hint = 0
        super().__init__()

    def _new_parser(self) -> None:
        self._parser = httptools.HttpResponseParser(self)

    @property
    def between_messages(self) -> bool:
        """Whether the last message was read to its end and nothing came behind it."""
        return self._ended and not self._begun and self._mode == PARSED

    @property
    def untouched(self) -> bool:
        """Whether no byte came since the last head or message."""
        return not self._begun

    @property
    def tunnelled(self) -> bool:
        """Whether a 101 turned the connection into a pipe."""
        return self._mode == RAW and not self.until_close

    def expect(self, head: RequestHead) -> None:
        """Say which request the next response answers."""
        self._bodyless = head.method == b"HEAD"
        self._upgrading = head.upgrade

    def on_headers_complete(self) -> None:
        parser = self._parser
        fields = self._fields
        if self._fed > MAX_HEAD_BYTES or len(fields) > MAX_FIELDS or self._read[:5] != _PROTOCOL:
            self._look_closely()
        else:
            self._fed = TOLD
        self._begun = False
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
                length = length_of(pair[1])
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
                raise HeadEnds  # llhttp would wait for the body that is only described

    def _look_closely(self) -> None:
        """At a head that is large, has something before it in its read, or is not as it should."""
        self._check_head_size()
        self._place = place = self._head_begins()
        self._fed = TOLD_AT
        if not self._read.startswith(_PROTOCOL, place):  # llhttp knows RTSP/ and ICE/ as well
            raise H1Error("the server speaks another protocol")

    def _length_of_body(self, head: bytes) -> int:
        return 0  # what comes behind a 1xx; behind another answer nothing may

    def on_message_complete(self) -> None:
        """Chunks have ended: of all other ends llhttp is not asked."""
        if self._ended:
            return
        self._ended = True
        self._remaining = 0
        trailers: Headers = []
        if self._fields:
            trailers = checked_trailers(self._fields)
            self._fields.clear()
            # llhttp takes a `Connection: close` that comes so late at its word.
            self.keep_alive = self.keep_alive and self._parser.should_keep_alive()
        self._sink.on_message_end(trailers)

    def _go_on(self, data: bytes) -> None:
        if self._begun or self._remaining > 0:
            super()._go_on(data)
        elif self.until_close:
            self._mode = RAW
        else:
            # In chunks: a read that brought nothing of the body.
            fed = len(data) if self._fed >= TOLD else self._fed
            self._silent = self._silent + fed if fed else 0
            if self._silent > MAX_HEAD_BYTES or len(self._fields) > MAX_FIELDS:
                raise H1Error("trailer fields or chunk extensions are too large", 431)

    def _read_special(self, special: Headers, kept: Headers) -> tuple[bool, Headers]:
        """Fields of this connection alone; whether the body is chunked, and what stays."""
        chunked = closes = False
        named: list[bytes] = []
        for pair in special:
            name, value = pair
            if name == b"connection":
                if value.lower() == b"close":
                    closes = True
                else:
                    named += tokens([pair], b"connection")
            elif name == b"transfer-encoding":
                if chunked or value.lower() != b"chunked":
                    raise H1Error("the only transfer coding here is one `chunked`")
                chunked = True
                self._silent = 0
            elif name == b"keep-alive":
                hint = _KEEP_ALIVE_TIMEOUT.search(value)
                if hint:
                    self.idle_hint = int(hint[1])
            elif name == b"upgrade" and self._upgrading:
                kept.append(pair)
        if chunked and not (self.keep_alive or closes or b"close" in named or self._parser.get_http_version() == "1.0"):
            # A tab behind `chunked`: llhttp does not know it, and takes all for the body that comes.
            raise H1Error("the only transfer coding here is one `chunked`")
        if named:
            dropped = {name for name in named if name != b"upgrade" and not protected(name)}
            kept = [pair for pair in kept if pair[0] not in dropped]
        return chunked, kept

    def _on_interim(self, status: int, headers: Headers) -> None:
        if status < 100:
            raise H1Error("a status has three digits and is at least 100")
        self._ended = True
        head = ResponseHead(status, headers, 0)
        if status != 101:
            self._sink.on_informational_head(head)
        elif self._parser.should_upgrade() and self._asked_for(tokens(headers, b"upgrade")):
            self._sink.on_message_head(head, False)
        else:
            raise H1Error("101 to a request that asked for no such upgrade")

    def _asked_for(self, protocols: list[bytes]) -> bool:
        """Whether the request wanted to be upgraded to what the server has (RFC 9110 7.8)."""
        return bool(protocols) and set(protocols) <= set(self._upgrading.lower().split(b", "))

    def _head_end(self, data: bytes) -> int:
        return FinalScout(httptools.HttpResponseParser).head_end(data)

    def _behind_head(self, rest: bytes) -> bytes:
        self._new_parser()
        self._finish_message()
        if rest:
            raise H1Error("body bytes where no body may be")
        return b""

    def _after_upgrade(self, rest: bytes) -> bytes:
        self._mode = RAW
        self._ended = False
        return rest

    def eof(self) -> bool:
        """The server closed its side: whether that ended a message as it should.

        Tells the sink of the end of a close-delimited body or of a tunnel.
        """
        if self._mode != RAW or (self.until_close and self._ended):
            return False
        self._ended = True
        self._sink.on_message_end([])
        return True
