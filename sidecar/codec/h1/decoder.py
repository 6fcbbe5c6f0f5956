"""What the decoders of both directions share: heads by llhttp, bodies and their ends by us.

llhttp is given heads, the body of a known length that came in one read with its head, and
the chunks of answers. In the chunks of requests, in longer bodies and in tunnels it has no
part. It does not say where in a read a head ended: where that matters it is stopped there,
and a `Scout` finds the place.
So that the place can be found, a read is given to llhttp as it is only where a head begins
with it; the rest of a head that is split over reads goes in up to its end and no further.
"""

import re
from typing import Any, Final

import httptools

from sidecar.codec.h1.limits import MAX_FIELDS, MAX_HEAD_BYTES, H1Error
from sidecar.model.headers import Headers

# How a decoder takes its bytes: by llhttp; as the rest of a head; counted off a body of
# known length; in chunks; as they are, to the end of the connection; held back until an
# upgrade is answered; not at all, after a message that was to be the last.
PARSED, SPLIT, COUNTED, CHUNKED, RAW, HELD, OVER = range(7)
# While llhttp leaves an upgrade that may not pass.
STOPPED: Final = 7

END: Final = b"\r\n\r\n"
NO_MEMORY: Final = "the sidecar is short of memory"

# What may stand before a head (RFC 9112 2.2), or at least llhttp lets it.
_BLANK: Final = re.compile(rb"[\r\n]*")
# More than any read: what `_fed` is when a head was told that the read began with, and when one
# was told that began at `_place`.
TOLD: Final = 1 << 40
TOLD_AT: Final = TOLD + 1

# What llhttp's feed raises: bad bytes, our own refusals, and the end of HTTP.
_STOPS = (httptools.HttpParserError, httptools.HttpParserUpgrade)


class HeadEnds(Exception):  # noqa: N818 - it is a way out of a callback, not an error
    """Stops llhttp behind a head: what follows is not for it."""


class Decoder:
    """Bytes in, messages out."""

    __slots__ = (
        "_add",
        "_begun",
        "_ended",
        "_fed",
        "_fields",
        "_mode",
        "_parser",
        "_place",
        "_read",
        "_remaining",
        "_sink",
        "_tail",
        "growth",
        "keep_alive",
    )

    _parser: Any
    _sink: Any  # a Sink; ResponseDecoder's is a ResponseSink

    def __init__(self) -> None:
        # Fields of the head that is being read; `_add` is its append.
        self._fields: Headers = []
        self._add = self._fields.append
        self._fed = 0  # bytes of the reads that the present head came in, if it is the first in them
        # The read that llhttp has, or the first line of a head that was split.
        self._read = b""
        self._place = 0
        self._begun = False  # whether a head was begun, and not ended
        self._tail = b""  # up to three bytes of a head whose end is looked for
        self._ended = True  # the end of the message was told
        self._remaining = 0  # of a fixed-length body; -1 when nobody knows
        self._mode = PARSED
        self.keep_alive = True
        # Who counts what heads that are not whole take; see sidecar.policy.growth.
        self.growth: Any = None
        self._new_parser()

    def close(self) -> None:
        """The connection is gone: nothing comes any more. llhttp and who is told are let go,
        for they hold this as well, and the three would be left to the collector. What was read
        of a head is no more."""
        self._parser = self._sink = None
        self._fields = []
        self._add = self._fields.append
        self._read = b""

    def _new_parser(self) -> None:
        raise NotImplementedError

    def _after_upgrade(self, rest: bytes) -> bytes:
        raise NotImplementedError

    def _behind_head(self, rest: bytes) -> bytes:
        """llhttp was stopped behind a head; what is to be fed of the rest."""
        raise NotImplementedError

    def _head_end(self, data: bytes) -> int:
        """The place behind the head that llhttp was stopped at."""
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the peer; H1Error when they are wrong.
        A loop, and no recursion: a client may send a thousand messages in one read."""
        while data:
            if self._mode:
                data = self._feed_unparsed(data)
                continue
            self._fed = len(data)
            self._read = data
            try:
                self._parser.feed_data(data)
            except _STOPS as error:
                data = self._stopped(error, data, None)
                continue
            if self._begun or self._remaining:
                self._go_on(data)
            return

    def _go_on(self, data: bytes) -> None:
        """A read ended in the middle of a message: how to take the next one."""
        if self._begun:
            begin = self._head_begins()
            if self._fed >= TOLD:
                self._fed = len(data) - begin
            if self._fed > MAX_HEAD_BYTES:
                raise H1Error("header fields are too large", 431)
            if self.growth is not None and self.growth.took(len(data)):
                raise H1Error(NO_MEMORY, 503)
            self._mode = SPLIT
            self._tail = data[-3:]
            self._read = self._read[begin : self._read.find(b"\n", begin) + 1 or None]
        elif self._remaining > 0:
            self._mode = COUNTED

    def _feed_unparsed(self, data: bytes) -> bytes:
        """Bytes that are not for llhttp, or not all of them; what is left over is fed again."""
        mode = self._mode
        if mode == COUNTED:
            return self._count(data)
        if mode == CHUNKED:
            return self._feed_chunks(data)
        if mode == SPLIT:
            return self._feed_split(data)
        if mode == RAW:
            self._sink.on_message_data(data, False)
            return b""
        if mode == OVER:
            raise H1Error("data after a message that said Connection: close")
        self._keep_apart(data)
        return b""

    def _feed_chunks(self, data: bytes) -> bytes:
        raise NotImplementedError

    def _keep_apart(self, data: bytes) -> None:
        raise NotImplementedError

    def _feed_split(self, data: bytes) -> bytes:
        joined = self._tail + data
        place = joined.find(END)
        cut = len(data) if place < 0 else place + 4 - len(self._tail)
        head, rest = data[:cut], data[cut:]
        if not self._read.endswith(b"\n"):
            self._read += head  # its first line is not all there yet
        self._mode = PARSED
        self._fed += cut
        try:
            self._parser.feed_data(head)
        except _STOPS as error:
            return self._stopped(error, head, cut) + rest
        if self._begun or self._remaining:
            self._go_on(joined)
        return rest

    def _head_begins(self) -> int:
        """Where in the read the head begins that is read now. There may be several: before
        it are only messages that llhttp had whole."""
        read, place = self._read, 0
        if self._fed >= TOLD:
            place = self._place if self._fed == TOLD_AT else 0
            end = read.find(END, place) + len(END)
            place = end + self._length_of_body(read[place:end])
        blank = _BLANK.match(read, place)
        return blank.end() if blank is not None else place

    def _length_of_body(self, head: bytes) -> int:
        """How long the body is behind this head, which was found right."""
        raise NotImplementedError

    def _stopped(self, error: Exception, data: bytes, end: int | None) -> bytes:
        """Why llhttp did not take everything: the end of a head, our own refusal, an upgrade,
        or bad bytes. `end` is where the head ends, if that is known. Gives back what is to be
        fed again."""
        if isinstance(error, httptools.HttpParserUpgrade):
            return self._after_upgrade(data[error.args[0] :])
        if isinstance(error, httptools.HttpParserCallbackError):
            reason = error.__context__
            if isinstance(reason, HeadEnds):
                return self._behind_head(data[self._head_end(data) if end is None else end :])
            # What a callback raised: our own refusal, or a bug, of which llhttp's error hides the place.
            raise (error if reason is None else reason) from None
        raise H1Error(str(error)) from None

    def _count(self, data: bytes) -> bytes:
        size = len(data)
        if size < self._remaining:
            self._remaining -= size
            self._sink.on_message_data(data, False)
            return b""
        rest = data[self._remaining :]
        body = data if not rest else data[: self._remaining]
        self._new_parser()  # the old one stands in the middle of a body
        self._finish_message()
        self._sink.on_message_data(body, True)
        return rest

    def _finish_message(self) -> None:
        """The end of a message that llhttp did not see."""
        self._ended = True
        self._remaining = 0
        self._mode = PARSED if self.keep_alive else OVER

    def _check_head_size(self) -> None:
        """Measure a head that came in a read larger than a head may be."""
        if len(self._fields) > MAX_FIELDS:
            raise H1Error("too many header fields", 431)
        if sum(len(name) + len(value) + 4 for name, value in self._fields) > MAX_HEAD_BYTES:
            raise H1Error("header fields are too large", 431)

    # Callbacks of httptools, named as it wants them.

    def on_message_begin(self) -> None:
        self._begun = True

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


class Scout:
    """Finds the end of a head that another parser was stopped at, in bytes that begin with
    a head: it has llhttp read them again, up to each empty line, and looks at every head."""

    __slots__ = ("_found", "_parser", "_wanted")

    def __init__(self, parser: Any) -> None:
        self._found = False
        self._wanted = False
        self._parser = parser(self)

    def head_end(self, data: bytes) -> int:
        """The place behind the first head that is wanted."""
        place = 0
        while not self._found:
            end = data.find(END, place) + 4
            if end < 4:
                raise H1Error("a head without an end")  # the other parser saw it
            try:
                self._parser.feed_data(data[place:end])
            except _STOPS as error:
                # Behind the head that is wanted, where it is not stopped: an upgrade, or
                # a `chunked` with a tab behind it, which llhttp does not know as one.
                if not self._found:
                    raise H1Error(str(error)) from None
            place = end
        return place

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"transfer-encoding":
            self._wanted = True

    def on_headers_complete(self) -> None:
        self._found = self._wanted


class FinalScout(Scout):
    """Looks for the first response head that is no 1xx."""

    __slots__ = ()

    def on_headers_complete(self) -> None:
        self._found = self._parser.get_status_code() >= 200
