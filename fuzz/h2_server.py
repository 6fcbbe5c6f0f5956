"""Any frames from an HTTP/2 client against the whole sidecar: no exception gets out; the
connection lives or ends; every request that began is finished, its place, its try and
its connection are given back.

Frames are changed as frames (dropped, doubled, swapped, with other types, flags,
streams and lengths) and as bytes; the preface stays, for without it nothing is read.
"""

from collections.abc import Sequence
from random import Random
from struct import pack
from typing import Final

import ngh2

from fuzz.mutate import mutated
from fuzz.whole_path import stand
from sidecar.wire.h2_server import H2ServerConnection

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_CALL = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/pkg.Users/Get"),
    (b":authority", b"users.internal:80"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"grpc-timeout", b"1S"),
]
_GET = [(b":method", b"GET"), *_CALL[1:4], (b"cookie", b"a=1"), (b"cookie", b"b=2")]
_CONNECT = [(b":method", b"CONNECT"), (b":authority", b"users.internal:443")]


def _session(*calls: tuple[list[tuple[bytes, bytes]], bytes | None, bool]) -> bytes:
    """What a client sends: its settings, then each (fields, body, trailers)."""
    client = ngh2.Connection(ngh2.Role.CLIENT)
    client.initiate_connection()
    for fields, body, trailers in calls:
        stream_id = client.send_request(fields, end_stream=body is None)
        if body is not None:
            client.send_data(stream_id, body, end_stream=not trailers)
            if trailers:
                client.send_trailers(stream_id, [(b"x-checksum", b"1")])
    return bytes(client.data_to_send()).removeprefix(PREFACE)


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return pack(">I", len(payload))[1:] + pack(">BBI", kind, flags, stream_id) + payload


_MESSAGE = b"\0\0\0\0\x05hello"
_CANCEL = _frame(3, 0, 1, pack(">I", 8))
_WINDOW = _frame(8, 0, 0, pack(">I", 1000))
_PING = _frame(6, 0, 0, b"12345678")
_GOAWAY = _frame(7, 0, 0, pack(">II", 0, 0))
_SETTINGS = _frame(4, 0, 0, pack(">HIHI", 4, 0, 3, 1))
SEEDS: Final = (
    _session((_GET, None, False)),
    _session((_CALL, _MESSAGE, False), (_CALL, _MESSAGE * 3, False)),
    _session((_CALL, _MESSAGE, True)),
    _session((_GET, b"x" * 4000, False), (_GET, None, False)),
    _session((_CONNECT, b"tunnel", False)),
    _session((_CALL, _MESSAGE, False)) + _CANCEL + _WINDOW + _PING + _SETTINGS,
    _session((_GET, None, False)) + _GOAWAY,
    b"",
)
WORDS: Final = (
    _CANCEL,
    _WINDOW,
    _PING,
    _GOAWAY,
    _SETTINGS,
    _frame(0, 1, 1, b""),
    _frame(9, 4, 1, b"\x82"),
    _frame(1, 5, 1, b""),
)


def draw(rng: Random) -> bytes:
    """Frames of one or two sessions, changed."""
    return drawn(rng, SEEDS, WORDS)


def drawn(rng: Random, seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """The frames of one or two of the seeds, changed as frames or as bytes."""
    if rng.random() < 0.3:
        return mutated(rng, seeds, words)
    frames = _frames(rng.choice(seeds) + (rng.choice(seeds) if rng.random() < 0.3 else b""))
    for _ in range(1 << rng.randrange(3)):
        _change(rng, frames)
    return b"".join(frames)


def check(data: bytes) -> None:
    """One connection's life."""
    stand(H2ServerConnection, data, PREFACE)


def _frames(data: bytes) -> list[bytes]:
    found = []
    while len(data) >= 9:
        size = 9 + int.from_bytes(data[:3], "big")
        found.append(data[:size])
        data = data[size:]
    return found


def _change(rng: Random, frames: list[bytes]) -> None:
    place = rng.randrange(len(frames) + 1)
    if place == len(frames) or rng.random() < 0.2:
        frames.insert(place, rng.choice(WORDS))
        return
    frame = bytearray(frames[place])
    match rng.randrange(7):
        case 0:
            del frames[place]
            return
        case 1:
            frames.insert(rng.randrange(len(frames) + 1), frames[place])
            return
        case 2:
            frame[3] = rng.randrange(12)  # type
        case 3:
            frame[4] ^= 1 << rng.randrange(6)  # flags
        case 4:
            frame[5:9] = pack(">I", rng.choice((0, 1, 2, 3, 5, 7, 0x7FFFFFFF)))
        case 5:
            frame[0:3] = pack(">I", rng.choice((0, 1, 8, 16384, 16385, 65537)))[1:]
        case _:
            frame[9:] = _other_payload(rng, frame[9:])
            frame[0:3] = pack(">I", len(frame) - 9)[1:]
    frames[place] = bytes(frame)


def _other_payload(rng: Random, payload: Sequence[int]) -> bytes:
    return mutated(rng, [bytes(payload)], (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x82", b"\x40\x01:\x01x"))
