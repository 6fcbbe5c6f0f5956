"""HTTP/2 frames by hand: what a peer that follows no rules puts on the wire, and reads off it.

Nothing of the sidecar and no HTTP/2 library is used, so that any frame can be made.
"""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import pack, unpack
from typing import Final

import hpack

from tests.support import streams

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
UNKNOWN: Final = 0xAB
NAMES: Final = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
]

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# RFC 9113 7.
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)
CODES: Final = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED"),
    *("FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"),
)

Fields = Iterable[tuple[bytes, bytes]]

GET: Final[list[tuple[bytes, bytes]]] = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"service.test"),
]
HANG: Final = [GET[0], GET[1], (b":path", b"/hang"), GET[3]]
POST: Final = [(b":method", b"POST"), *GET[1:]]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113 4.1)."""
    return pack(">I", len(payload))[1:] + pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A field without indexing and without Huffman (RFC 7541 6.2.2)."""
    return b"\x00" + string(name) + string(value)


def string(text: bytes, coded: bool = False) -> bytes:
    """A string (RFC 7541 5.2); `coded` says that it is in Huffman's code."""
    size = bytearray(_length(text))
    size[0] |= 128 if coded else 0
    return bytes(size) + text


def block(fields: Fields) -> bytes:
    """A header block that leaves the dynamic table alone."""
    return b"".join(literal(name, value) for name, value in fields)


def _length(text: bytes) -> bytes:
    """RFC 7541 5.1, a prefix of seven bits."""
    size = len(text)
    if size < 127:
        return bytes([size])
    out, size = bytearray(b"\x7f"), size - 127
    while size >= 128:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out)


def headers(stream: int, fields: Fields, end: bool = False, flags: int = END_HEADERS) -> bytes:
    """HEADERS; `end` is END_STREAM."""
    return frame(HEADERS, flags | (END_STREAM if end else 0), stream, block(fields))


def data(stream: int, payload: bytes = b"", end: bool = False) -> bytes:
    """DATA."""
    return frame(DATA, END_STREAM if end else 0, stream, payload)


def reset(stream: int, code: int = CANCEL) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream, pack(">I", code))


def settings(*pairs: tuple[int, int], ack: bool = False) -> bytes:
    """SETTINGS."""
    return frame(SETTINGS, ACK if ack else 0, 0, b"".join(pack(">HI", *pair) for pair in pairs))


def ping(payload: bytes = b"12345678", ack: bool = False) -> bytes:
    """PING."""
    return frame(PING, ACK if ack else 0, 0, payload)


def window_update(stream: int, increment: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream, pack(">I", increment))


def priority(stream: int, depends_on: int = 0, weight: int = 15) -> bytes:
    """PRIORITY."""
    return frame(PRIORITY, 0, stream, pack(">IB", depends_on, weight))


def goaway(last: int = 0, code: int = NO_ERROR, debug: bytes = b"") -> bytes:
    """GOAWAY."""
    return frame(GOAWAY, 0, 0, pack(">II", last, code) + debug)


def push_promise(stream: int, promised: int, fields: Fields = GET) -> bytes:
    """PUSH_PROMISE."""
    return frame(PUSH_PROMISE, END_HEADERS, stream, pack(">I", promised) + block(fields))


@dataclass(frozen=True)
class Frame:
    """One received frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def end(self) -> bool:
        """END_STREAM."""
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or GOAWAY."""
        at = 4 if self.kind == GOAWAY else 0
        return int(unpack(">I", self.payload[at : at + 4])[0])

    def __str__(self) -> str:
        name = NAMES[self.kind] if self.kind < len(NAMES) else hex(self.kind)
        if self.kind in (RST_STREAM, GOAWAY):
            return f"{name}({self.stream}, {CODES[self.code] if self.code < len(CODES) else self.code})"
        return f"{name}({self.stream}, {len(self.payload)} bytes, flags {self.flags:#x})"


def split(data: bytes) -> Iterator[Frame]:
    """The frames in these bytes, all of them whole."""
    at = 0
    while at < len(data):
        size, kind, flags, stream = unpack(">IBBI", b"\0" + data[at : at + 9])
        yield Frame(kind, flags, stream & 0x7FFFFFFF, data[at + 9 : at + 9 + size])
        at += 9 + size


@dataclass
class Peer:
    """One end of a connection, by hand. `frames` are all that it has read, or with `forgets`
    the GOAWAYs alone."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: list[Frame] = field(default_factory=list)
    closed: bool = False  # whether the other end has closed
    forgets: bool = False

    def __post_init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=1 << 20)

    async def send(self, *parts: bytes) -> None:
        """Write; a peer that has closed is no error."""
        try:
            self.writer.write(b"".join(parts))
            await self.writer.drain()
        except ConnectionError:
            self.closed = True

    async def read_frame(self) -> Frame | None:
        """The next frame, or None at the end of the connection. SETTINGS are acknowledged."""
        try:
            head = await self.reader.readexactly(9)
            size, kind, flags, stream = unpack(">IBBI", b"\0" + head)
            payload = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed = True
            return None
        got = Frame(kind, flags, stream & 0x7FFFFFFF, payload)
        if not self.forgets or kind == GOAWAY:
            self.frames.append(got)
        if kind == SETTINGS and not flags & ACK:
            await self.send(settings(ack=True))
        return got

    async def until(self, kind: int, stream: int | None = None, code: int | None = None) -> Frame | None:
        """Read up to a frame of this kind (and stream); None when the connection ends first."""
        while (got := await self.read_frame()) is not None:
            if got.kind == kind and stream in (None, got.stream) and (code is None or got.code == code):
                return got
        return None

    async def until_closed(self) -> None:
        """Read to the end of the connection."""
        while await self.read_frame() is not None:
            pass

    async def alive(self, token: bytes = b"alive-?!") -> bool:
        """Whether the other end still answers a PING."""
        await self.send(ping(token))
        while (got := await self.read_frame()) is not None:
            if got.kind == PING and got.flags & ACK and got.payload == token:
                return True
        return False

    def decode(self, got: Frame) -> dict[bytes, bytes]:
        """The fields of a HEADERS frame: call it for each in their order."""
        return {bytes(name): bytes(value) for name, value in self._decoder.decode(got.payload, raw=True)}

    def of(self, kind: int, stream: int | None = None) -> list[Frame]:
        """The frames of one kind."""
        return [got for got in self.frames if got.kind == kind and stream in (None, got.stream)]

    def close(self) -> None:
        """Cut the connection."""
        self.writer.transport.abort()


async def connect(port: int, *pairs: tuple[int, int], greet: bool = True) -> Peer:
    """A client of a server on loopback; with `greet` preface, SETTINGS and their answer are exchanged."""
    reader, writer = await streams.connect("127.0.0.1", port)
    peer = Peer(reader, writer)
    if greet:
        await peer.send(PREFACE, settings(*pairs))
        while not any(got.flags & ACK for got in peer.of(SETTINGS)):
            if await peer.read_frame() is None:
                break
    return peer
