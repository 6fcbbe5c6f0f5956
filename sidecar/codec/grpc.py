"""What gRPC puts into HTTP/2: status, timeout, messages.

Source: gRPC over HTTP2, https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import re
from functools import lru_cache
from urllib.parse import quote_from_bytes, unquote_to_bytes

from sidecar.model.head import ResponseHead
from sidecar.model.headers import Headers, get

# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
STATUS_NAMES = (
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
)
STATUS_NUMBERS = {name: number for number, name in enumerate(STATUS_NAMES)}
(
    OK,
    CANCELLED,
    UNKNOWN,
    INVALID_ARGUMENT,
    DEADLINE_EXCEEDED,
    NOT_FOUND,
    ALREADY_EXISTS,
    PERMISSION_DENIED,
    RESOURCE_EXHAUSTED,
    FAILED_PRECONDITION,
    ABORTED,
    OUT_OF_RANGE,
    UNIMPLEMENTED,
    INTERNAL,
    UNAVAILABLE,
    DATA_LOSS,
    UNAUTHENTICATED,
) = range(17)

_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_MAX_DIGITS = 10**8
_LONGEST = 3600.0 * _MAX_DIGITS
# Finest first: the first unit whose number fits into eight digits loses least.
_FORMATS = ((1e9, b"%dn"), (1e6, b"%du"), (1e3, b"%dm"), (1.0, b"%dS"), (1 / 60, b"%dM"), (1 / 3600, b"%dH"))

# Percent-Encoded: %x20-%x24 and %x26-%x7E stand for themselves.
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_PUSHBACK = re.compile(rb"-?\d{1,10}")

_PREFIX = 5  # one byte of flags, four of length


def is_grpc(content_type: bytes | None) -> bool:
    """Whether a request's content type says gRPC: `application/grpc`, with
    `+proto` or a parameter behind it, but not grpc-web, which is another protocol."""
    if content_type is None or not content_type.startswith(b"application/grpc"):
        return False
    return len(content_type) == 16 or content_type[16] in b"+; \t"


def head_is_grpc(head: ResponseHead) -> bool:
    """Whether an answer says that it is gRPC."""
    return is_grpc(get(head.fields or head.headers, b"content-type"))


def status_number(headers: Headers) -> int | None:
    """The `grpc-status` of a head or of trailers, or None when there is none.
    What is no known number counts as UNKNOWN, as the protocol says."""
    value = get(headers, b"grpc-status")
    if value is None:
        return None
    if value == b"0":
        return OK
    if not value.isdigit() or len(value) > 2:
        return UNKNOWN
    number = int(value)
    return number if number <= UNAUTHENTICATED else UNKNOWN


@lru_cache(1024)  # most clients send one timeout per method
def parse_timeout(value: bytes) -> float | None:
    """Seconds in a `grpc-timeout` such as b"500m"; None when it is malformed."""
    match = _TIMEOUT.fullmatch(value)
    return None if match is None else int(match[1]) * _UNITS[match[2]]


def format_timeout(seconds: float) -> bytes:
    """A `grpc-timeout` of at most so many seconds: rounded down, and never past
    what eight digits of a unit can say. At least 1n: zero is not positive."""
    if seconds < 1e-9:
        return b"1n"
    for factor, form in _FORMATS:
        number = int(min(seconds, _LONGEST) * factor)
        if number < _MAX_DIGITS:
            return form % number
    return b"99999999H"


def encode_message(text: str) -> bytes:
    """A `grpc-message`: UTF-8, percent-encoded."""
    return quote_from_bytes(text.encode("utf-8", "replace"), safe=_PLAIN).encode("ascii")


def decode_message(value: bytes) -> str:
    """The text of a `grpc-message`. What is malformed stays as it came."""
    return unquote_to_bytes(value).decode("utf-8", "replace")


def retry_pushback(headers: Headers) -> float | None:
    """What `grpc-retry-pushback-ms` asks for: seconds to wait, -1.0 for "do not
    retry" (gRFC A6: a negative or malformed value), None when there is none."""
    value = get(headers, b"grpc-retry-pushback-ms")
    if value is None:
        return None
    if _PUSHBACK.fullmatch(value) is None or value.startswith(b"-"):
        return -1.0
    return int(value) / 1000


def is_whole(data: bytes) -> bool:
    """Whether a body that begins with these bytes has its first message in them."""
    return len(data) >= _PREFIX + int.from_bytes(data[1:_PREFIX], "big")


class MessageCounter:
    """Counts length-prefixed messages in a body that comes in any chunks.

    `complete` is the number of whole messages, `partial` whether the bytes of
    another one have begun. Reads prefixes only, never the messages.
    """

    __slots__ = ("_left", "_prefix", "complete")

    def __init__(self) -> None:
        self.complete = 0
        self._left = 0  # bytes of the message that are still to come
        self._prefix = b""  # of a prefix that came in parts

    @property
    def partial(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._left > 0 or bool(self._prefix)

    def feed(self, data: bytes) -> int:
        """Take a chunk; returns `complete`."""
        fresh = not self._left and not self._prefix and len(data) >= _PREFIX
        if fresh and len(data) == _PREFIX + int.from_bytes(data[1:_PREFIX], "big"):
            # One chunk, one message: what nearly every unary call sends.
            self.complete += 1
            return self.complete
        return self._walk(data)

    def _walk(self, data: bytes) -> int:
        position = 0
        size = len(data)
        while position < size:
            if self._left:
                step = min(self._left, size - position)
                self._left -= step
                position += step
                if not self._left:
                    self.complete += 1
                continue
            step = min(_PREFIX - len(self._prefix), size - position)
            self._prefix += data[position : position + step]
            position += step
            if len(self._prefix) == _PREFIX:
                self._left = int.from_bytes(self._prefix[1:], "big")
                self._prefix = b""
                if not self._left:
                    self.complete += 1
        return self.complete
