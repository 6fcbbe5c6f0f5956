"""RFC 9113, sections 3 to 8: what a peer can break whether it is the client or the server,
and the answer that is asked for."""

from struct import pack

from tests.security.http2 import frames as f
from tests.security.http2.cases import IGNORED, Case, goaway, rst

# Of every case that is shared.
STREAM = 1
CLOSED = 3
IDLE = 101


def shared() -> list[Case]:
    """Frames that are wrong whoever reads them. Stream 1 is open in both directions, and
    its head has come; 3 was reset by the sender of the frames; 101 is idle."""
    long = b"x" * 70_000  # over our SETTINGS_MAX_FRAME_SIZE of 65,536
    nop = f.block([(b"x-a", b"b")])
    return [
        # 4.1, 5.5: what is not known is not looked at.
        Case("4.1", "unknown type", f.frame(f.UNKNOWN, 0xFF, 0, b"?"), IGNORED),
        Case("4.1", "unknown type on a stream", f.frame(f.UNKNOWN, 0xFF, STREAM, b"?"), IGNORED),
        Case("4.1", "unknown type on an idle stream", f.frame(f.UNKNOWN, 0, IDLE, b"?"), IGNORED),
        Case("4.1", "undefined flags of PING", f.frame(f.PING, 0xFE, 0, b"12345678"), IGNORED),
        Case("4.1", "reserved bit", f.frame(f.WINDOW_UPDATE, 0, 1 << 31, pack(">I", 1)), IGNORED),
        # 4.2: longer than we allow.
        Case("4.2", "DATA too long", f.data(STREAM, long), goaway(f.FRAME_SIZE_ERROR)),
        Case("4.2", "HEADERS too long", f.frame(f.HEADERS, 4, STREAM, long), goaway(f.FRAME_SIZE_ERROR)),
        Case("4.2", "SETTINGS too long", f.frame(f.SETTINGS, 0, 0, bytes(66_000)), goaway(f.FRAME_SIZE_ERROR)),
        Case("4.2", "unknown type too long", f.frame(f.UNKNOWN, 0, 0, long), goaway(f.FRAME_SIZE_ERROR)),
        # 4.3: field blocks.
        Case("4.3", "index 0", f.frame(f.HEADERS, 5, STREAM, b"\x80"), goaway(f.COMPRESSION_ERROR)),
        Case("4.3", "index beyond the tables", f.frame(f.HEADERS, 5, STREAM, b"\xfe"), goaway(f.COMPRESSION_ERROR)),
        Case("4.3", "integer without end", f.frame(f.HEADERS, 5, STREAM, b"\xff" * 12), goaway(f.COMPRESSION_ERROR)),
        Case("4.3", "string that is cut", f.frame(f.HEADERS, 5, STREAM, b"\0\x05ab"), goaway(f.COMPRESSION_ERROR)),
        Case(
            "4.3",
            "table larger than allowed",
            f.frame(f.HEADERS, 5, STREAM, b"\x3f\xe2\x1f" + nop),  # 4,097
            goaway(f.COMPRESSION_ERROR),
        ),
        Case(
            "4.3",
            "table size behind a field",
            f.frame(f.HEADERS, 5, STREAM, nop + b"\x3f\xe1\x0f"),
            goaway(f.COMPRESSION_ERROR),
        ),
        Case(
            "4.3",
            "Huffman padding of zeros",
            f.frame(f.HEADERS, 5, STREAM, b"\0\x01x\x81\x00"),
            goaway(f.COMPRESSION_ERROR),
        ),
        Case(
            "4.3",
            "Huffman end of string",
            f.frame(f.HEADERS, 5, STREAM, b"\0\x01x\x84\xff\xff\xff\xff"),
            goaway(f.COMPRESSION_ERROR),
        ),
        Case("4.3", "block cut by DATA", f.frame(f.HEADERS, 0, STREAM, nop) + f.data(STREAM), goaway(f.PROTOCOL_ERROR)),
        Case("4.3", "block cut by PING", f.frame(f.HEADERS, 0, STREAM, nop) + f.ping(), goaway(f.PROTOCOL_ERROR)),
        Case(
            "5.5",
            "block cut by an unknown type",
            f.frame(f.HEADERS, 0, STREAM, nop) + f.frame(f.UNKNOWN, 0, 0, b""),
            goaway(f.PROTOCOL_ERROR),
        ),
        Case(
            "6.10",
            "block goes on on another stream",
            f.frame(f.HEADERS, 0, STREAM, nop) + f.frame(f.CONTINUATION, 4, STREAM + 2, nop),
            goaway(f.PROTOCOL_ERROR),
        ),
        # 5.1: idle streams.
        Case("5.1", "DATA on an idle stream", f.data(IDLE, b"x"), goaway(f.PROTOCOL_ERROR)),
        Case("5.1", "RST_STREAM on an idle stream", f.reset(IDLE), goaway(f.PROTOCOL_ERROR)),
        Case("5.1", "WINDOW_UPDATE on an idle stream", f.window_update(IDLE, 1), goaway(f.PROTOCOL_ERROR)),
        # 5.1: closed by the peer's RST_STREAM.
        Case("5.1", "DATA behind RST_STREAM", f.data(CLOSED, b"x"), rst(CLOSED, f.STREAM_CLOSED)),
        Case("5.1", "empty DATA behind RST_STREAM", f.data(CLOSED, end=True), rst(CLOSED, f.STREAM_CLOSED)),
        Case("5.1", "HEADERS behind RST_STREAM", f.frame(f.HEADERS, 5, CLOSED, nop), rst(CLOSED, f.STREAM_CLOSED)),
        Case(
            "5.1",
            "CONTINUATION behind RST_STREAM",
            f.frame(f.CONTINUATION, 4, CLOSED, nop),
            goaway(f.PROTOCOL_ERROR),
        ),
        Case(
            "5.1",
            "WINDOW_UPDATE, PRIORITY, RST_STREAM behind RST_STREAM",
            f.window_update(CLOSED, 9) + f.priority(CLOSED, 1) + f.reset(CLOSED),
            IGNORED,
        ),
        Case("5.1", "CONTINUATION on an idle stream", f.frame(f.CONTINUATION, 4, IDLE, nop), goaway(f.PROTOCOL_ERROR)),
        # 6.1 DATA.
        Case("6.1", "DATA on stream 0", f.data(0, b"x"), goaway(f.PROTOCOL_ERROR)),
        Case("6.1", "padding as long as DATA", f.frame(f.DATA, f.PADDED, STREAM, b"\x04abc"), goaway(f.PROTOCOL_ERROR)),
        # 4.2 asks for FRAME_SIZE_ERROR, 6.1 for PROTOCOL_ERROR: "the length of the frame payload or greater".
        Case(
            "6.1",
            "padded DATA without a byte",
            f.frame(f.DATA, f.PADDED, STREAM),
            goaway(f.FRAME_SIZE_ERROR, f.PROTOCOL_ERROR),
        ),
        # 6.2 HEADERS.
        Case("6.2", "HEADERS on stream 0", f.frame(f.HEADERS, 5, 0, nop), goaway(f.PROTOCOL_ERROR)),
        Case(
            "6.2",
            "padding longer than HEADERS",
            f.frame(f.HEADERS, 5 | f.PADDED, STREAM, b"\x20" + nop),
            goaway(f.PROTOCOL_ERROR),
        ),
        # 6.3 PRIORITY.
        Case("6.3", "PRIORITY on stream 0", f.priority(0, 1), goaway(f.PROTOCOL_ERROR)),
        Case("6.3", "PRIORITY of 4 bytes", f.frame(f.PRIORITY, 0, STREAM, bytes(4)), rst(STREAM, f.FRAME_SIZE_ERROR)),
        Case("6.3", "PRIORITY of 4 bytes on a closed stream", f.frame(f.PRIORITY, 0, CLOSED, bytes(4)), IGNORED),
        Case("5.3.1", "PRIORITY on itself", f.priority(STREAM, STREAM), rst(STREAM, f.PROTOCOL_ERROR)),
        Case("6.3", "PRIORITY on an idle stream", f.priority(IDLE, 1), IGNORED),
        Case("6.3", "PRIORITY on a closed stream", f.priority(CLOSED, 1), IGNORED),
        # 6.4 RST_STREAM.
        Case("6.4", "RST_STREAM on stream 0", f.reset(0), goaway(f.PROTOCOL_ERROR)),
        Case("6.4", "RST_STREAM of 3 bytes", f.frame(f.RST_STREAM, 0, STREAM, bytes(3)), goaway(f.FRAME_SIZE_ERROR)),
        # 6.5 SETTINGS.
        Case("6.5", "SETTINGS on a stream", f.frame(f.SETTINGS, 0, STREAM), goaway(f.PROTOCOL_ERROR)),
        Case("6.5", "SETTINGS of 5 bytes", f.frame(f.SETTINGS, 0, 0, bytes(5)), goaway(f.FRAME_SIZE_ERROR)),
        Case("6.5", "acknowledgement with a value", f.frame(f.SETTINGS, 1, 0, bytes(6)), goaway(f.FRAME_SIZE_ERROR)),
        Case("6.5.2", "ENABLE_PUSH of 2", f.settings((2, 2)), goaway(f.PROTOCOL_ERROR)),
        Case("6.5.2", "window over 2^31-1", f.settings((4, 1 << 31)), goaway(f.FLOW_CONTROL_ERROR)),
        Case("6.5.2", "MAX_FRAME_SIZE below 16,384", f.settings((5, 16_383)), goaway(f.PROTOCOL_ERROR)),
        Case("6.5.2", "MAX_FRAME_SIZE over 2^24-1", f.settings((5, 1 << 24)), goaway(f.PROTOCOL_ERROR)),
        Case("6.5.2", "unknown setting", f.settings((0xFF, 7)), IGNORED),
        # 6.7 PING.
        Case("6.7", "PING on a stream", f.frame(f.PING, 0, STREAM, bytes(8)), goaway(f.PROTOCOL_ERROR)),
        Case("6.7", "PING of 6 bytes", f.frame(f.PING, 0, 0, bytes(6)), goaway(f.FRAME_SIZE_ERROR)),
        Case("6.7", "an answer to no PING", f.ping(ack=True), IGNORED),
        # 6.8 GOAWAY.
        Case("6.8", "GOAWAY on a stream", f.frame(f.GOAWAY, 0, STREAM, bytes(8)), goaway(f.PROTOCOL_ERROR)),
        Case("6.8", "GOAWAY of 7 bytes", f.frame(f.GOAWAY, 0, 0, bytes(7)), goaway(f.FRAME_SIZE_ERROR)),
        # 6.9 WINDOW_UPDATE.
        Case("6.9", "increment of 0 on the connection", f.window_update(0, 0), goaway(f.PROTOCOL_ERROR)),
        Case("6.9", "increment of 0 on a stream", f.window_update(STREAM, 0), rst(STREAM, f.PROTOCOL_ERROR)),
        Case(
            "6.9", "WINDOW_UPDATE of 3 bytes", f.frame(f.WINDOW_UPDATE, 0, STREAM, bytes(3)), goaway(f.FRAME_SIZE_ERROR)
        ),
        Case(
            "6.9.1", "connection's window over 2^31-1", f.window_update(0, (1 << 31) - 1), goaway(f.FLOW_CONTROL_ERROR)
        ),
        Case(
            "6.9.1",
            "stream's window over 2^31-1",
            f.window_update(STREAM, (1 << 31) - 1),
            rst(STREAM, f.FLOW_CONTROL_ERROR),
        ),
        Case(
            "6.9.2",
            "window over 2^31-1 by SETTINGS",
            f.window_update(STREAM, (1 << 30) + (1 << 29)) + f.settings((4, (1 << 31) - 1)),
            goaway(f.FLOW_CONTROL_ERROR),
        ),
        # 6.10 CONTINUATION.
        Case("6.10", "CONTINUATION on stream 0", f.frame(f.CONTINUATION, 4, 0, nop), goaway(f.PROTOCOL_ERROR)),
        Case("6.10", "CONTINUATION of nothing", f.frame(f.CONTINUATION, 4, STREAM, nop), goaway(f.PROTOCOL_ERROR)),
    ]
