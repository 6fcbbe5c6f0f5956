"""The chunked coding (RFC 9112 7.1), taken off the body of a request.

Not left to llhttp, which reads extensions of any length without a word: here a line has
a limit, and the bytes of a chunk are passed on as they came. Anything but a size, an
extension, CRLF, as many bytes and CRLF is refused; nobody guesses.
"""

import re
from collections.abc import Callable
from typing import Final

import httptools

from sidecar.codec.fields import fit_for_trailers
from sidecar.codec.h1.limits import MAX_EXTENSION_BYTES, MAX_FIELDS, MAX_HEAD_BYTES, H1Error
from sidecar.model.headers import Headers

# A size of 15 digits is more than any body has; an extension holds no control bytes but tabs.
_SIZE: Final = rb"([0-9A-Fa-f]{1,15})((?:;[\t -~\x80-\xff]*)?)\r\n"
_FIRST: Final = re.compile(_SIZE)
_NEXT: Final = re.compile(rb"\r\n" + _SIZE)
# What may become one of them when more comes.
_BEGUN: Final = rb"(?:[0-9A-Fa-f]{1,15}(?:;[\t -~\x80-\xff]*)?\r?)?"
_FIRST_BEGUN: Final = re.compile(_BEGUN)
_NEXT_BEGUN: Final = re.compile(rb"\r?|\r\n" + _BEGUN)
_LONGEST_LINE: Final = 2 + 15 + MAX_EXTENSION_BYTES + 2

# Fields that say where a body ends: behind a body they are an attack (RFC 9110 6.5.1).
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))


class Chunked:
    """One body in chunks. `trailers` is what came behind it, once `feed` gave something back."""

    __slots__ = ("_behind", "_held", "_left", "_tell", "trailers")

    def __init__(self, tell: Callable[[bytes, bool], None]) -> None:
        self._tell = tell
        self._left = 0  # bytes of the chunk that are still to come
        self._behind = False  # whether a chunk was read, whose CRLF comes before the next size
        self._held = b""  # a line that is not whole yet, or the trailer section
        self.trailers: Headers | None = None

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; what comes behind the body, or None when the body goes on."""
        before = len(self._held)
        if before:
            data = self._held + data
            self._held = b""
        if self.trailers is not None:
            return self._read_trailers(data, max(0, before - 3))
        place, size = 0, len(data)
        left = self._left
        while True:
            if left:
                end = place + left
                if end > size:
                    self._left = end - size
                    if place < size:
                        self._tell(data[place:] if place else data, False)
                    return None
                self._tell(data[place:end], False)
                place = end
                self._behind = True
            found = (_NEXT if self._behind else _FIRST).match(data, place)
            if found is None:
                self._left = 0
                self._hold_line(data[place:])
                return None
            digits, extension = found.groups()
            if len(extension) > MAX_EXTENSION_BYTES:
                raise H1Error("a chunk extension is too long")
            place = found.end()
            left = int(digits, 16)
            if not left:
                self.trailers = []
                return self._read_trailers(data[place:], 0)

    def _hold_line(self, begun: bytes) -> None:
        if len(begun) > _LONGEST_LINE:
            raise H1Error("a chunk extension is too long")
        if (_NEXT_BEGUN if self._behind else _FIRST_BEGUN).fullmatch(begun) is None:
            raise H1Error("a chunk is malformed")
        self._held = begun

    def _read_trailers(self, data: bytes, unseen: int) -> bytes | None:
        """The trailer section, when it came whole. Its end is not before `unseen`."""
        if data.startswith(b"\r\n"):
            return data[2:]
        end = data.find(b"\r\n\r\n", unseen, MAX_HEAD_BYTES)
        if end < 0:
            if len(data) > MAX_HEAD_BYTES:
                raise H1Error("trailer fields are too large", 431)
            self._held = data
            return None
        self.trailers = _fields(data[: end + 4])
        return data[end + 4 :]


class _Fields:
    """Hears fields from llhttp."""

    def __init__(self) -> None:
        self.found: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.found.append((name.lower(), value.rstrip()))


def _fields(section: bytes) -> Headers:
    """The fields of a trailer section, read by llhttp as those of a head: as strictly."""
    fields = _Fields()
    parser = httptools.HttpRequestParser(fields)
    try:
        parser.feed_data(b"GET / HTTP/1.1\r\n" + section)
    except httptools.HttpParserUpgrade:
        pass  # it takes the fields for those of a head; they are only looked at here
    except httptools.HttpParserError as error:
        raise H1Error(str(error)) from None
    return checked_trailers(fields.found)


def checked_trailers(fields: Headers) -> Headers:
    """What may stand in a trailer section of these fields; H1Error when there are too many, or
    one tells a length."""
    if len(fields) > MAX_FIELDS:
        raise H1Error("too many trailer fields", 431)
    if sum(len(name) + len(value) + 4 for name, value in fields) > MAX_HEAD_BYTES:
        raise H1Error("trailer fields are too large", 431)
    if any(name in _FRAMING for name, _ in fields):
        raise H1Error("trailer fields tell a length")
    return [pair for pair in fields if fit_for_trailers(pair[0])]
