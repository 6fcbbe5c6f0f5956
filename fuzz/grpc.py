"""Any bytes: the pieces of gRPC that a peer may send are read without an exception, and

- the number of messages does not depend on how the bytes were cut, and is what the
  lengths in the prefixes say;
- a timeout that was understood is not negative, and what is written for it is
  understood again and never longer;
- a message that was encoded is decoded to the same text.
"""

from random import Random
from typing import Final

from fuzz.mutate import split
from sidecar.codec import grpc

SEEDS: Final = (
    b"\0\0\0\0\x05hello",
    b"\0\0\0\0\0\0\0\0\0\x02ab\1\0\0\0\1z",
    b"\0\0\0\1\0" + b"x" * 256 + b"\0\0\0",
    b"15S",
    b"99999999H",
    b"100m",
    b"-1",
    b"2500",
    b"caf\xc3\xa9 %25 100%",
    b"14",
)
WORDS: Final = (b"\0\0\0\0\0", b"\0\xff\xff\xff\xff", b"\0\0\0\0\1x", b"H", b"n", b"0", b"%", b"%4", b"\xc3")


def check(data: bytes) -> None:
    """All of it, for the same bytes."""
    _count(data)
    _timeout(data)
    _text(data)
    number = grpc.status_number([(b"grpc-status", data)])
    assert number is not None
    assert 0 <= number <= 16
    pushback = grpc.retry_pushback([(b"grpc-retry-pushback-ms", data)])
    assert pushback is not None
    assert pushback == -1.0 or pushback >= 0


def _count(data: bytes) -> None:
    whole = grpc.MessageCounter()
    whole.feed(data)
    pieces = grpc.MessageCounter()
    for piece in split(Random(len(data)), data):
        pieces.feed(piece)
    bytewise = grpc.MessageCounter()
    for place in range(len(data)):
        bytewise.feed(data[place : place + 1])
    complete, partial = _expected(data)
    for counter in (whole, pieces, bytewise):
        assert (counter.complete, counter.partial) == (complete, partial), (counter.complete, counter.partial)


def _expected(data: bytes) -> tuple[int, bool]:
    """Whole messages, and whether another one has begun; the slow way."""
    complete = 0
    while len(data) >= 5:
        size = 5 + int.from_bytes(data[1:5], "big")
        if len(data) < size:
            return complete, True
        complete += 1
        data = data[size:]
    return complete, bool(data)


def _timeout(data: bytes) -> None:
    seconds = grpc.parse_timeout(data)
    if seconds is None:
        return
    assert seconds >= 0
    again = grpc.parse_timeout(grpc.format_timeout(seconds))
    assert again is not None
    assert again > 0
    # The shortest that can be said is a nanosecond; what floats round is less than that.
    assert again <= max(seconds * (1 + 1e-12), 1e-9), (seconds, again)


def _text(data: bytes) -> None:
    grpc.decode_message(data)
    text = data.decode("utf-8", "replace")
    encoded = grpc.encode_message(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert grpc.decode_message(encoded) == text
