"""What a peer must not send and libnghttp2 lets pass, or punishes more than RFC 9113 asks.

The library takes no notice of DATA and HEADERS on a closed stream, of a stream number
that was passed over and of PRIORITY on stream 0; it ends the whole connection where the
stream alone is to be ended: a window that overflows, DATA behind END_STREAM or before the
head of an answer, a PRIORITY of a wrong length. So the frames' heads are looked at
before the library gets the bytes. At an unusual one the library is given what came
before it; then the state of the streams is exact, and the frame is judged.

An honest peer pays for this, so its cost is bounded: the first FRAMES of a connection are
looked at, and all others for as long as the process has few of them (sidecar.policy.looks).
What comes on a busy process goes by unseen but for a look now and then, which does no harm:
the library ignores such frames, or ends the connection. docs/adr/0016 tells why.
"""

from struct import Struct
from typing import TYPE_CHECKING, Any

from sidecar.codec.h2 import MAX_STREAMS, ErrorCode, H2Error
from sidecar.policy.looks import Looks

if TYPE_CHECKING:
    from sidecar.wire.h2_guard import Guarded

# How many frames of one connection are looked at in a row: one look.
FRAMES = 128
# In so many reads it is tried to find the beginning of a frame again, before the next look.
_TRIES = 16

_DATA, _HEADERS, _PRIORITY, _RST_STREAM, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 2, 3, 8, 9
_END_STREAM, _END_HEADERS = 0x1, 0x4
_MAX_WINDOW = 0x7FFFFFFF  # the largest stream number too
# RFC 9113 4.1: length and type in one, flags, stream.
_HEAD = Struct(">IBI").unpack_from
_HEAD_SIZE = 9
# As much of a frame as it takes to judge it: its head and the payload of a PRIORITY.
_JUDGED_SIZE = 14
_U32 = Struct(">I").unpack_from
# Streams that ended by RST_STREAM and of which it is known who sent that; ranges of
# numbers that were passed over.
_KEPT = 1000
# A frame below this overflows no window by itself, and an increment below that none
# either: to look at each would cost a call.
_LARGE_DATA = 4096
_LARGE_INCREMENT = 1 << 24


class Watch:
    """Looks at the frames of one connection. `since` is the turn's time from which on it
    wants to see what is read; `new` says that it is among its first FRAMES."""

    __slots__ = (
        "_connection",
        "_cut",
        "_dropping",
        "_ends",
        "_forgotten",
        "_gaps",
        "_held",
        "_last",
        "_left",
        "_looks",
        "_peer_opens",
        "_received",
        "_seen",
        "_skip",
        "_tries",
        "new",
        "since",
    )

    def __init__(self, connection: "Guarded", looks: Looks, peer_opens: bool, preface: int) -> None:
        self._connection = connection
        self._looks = looks
        self._peer_opens = peer_opens  # streams, by HEADERS: the peer is a client
        self.since = 0.0
        self.new = True
        self._left = FRAMES
        self._skip = preface  # bytes up to the next frame; negative when that is not known
        self._dropping = False  # those bytes are of a frame that the library must not see
        self._cut = (-1, 0, 0)  # type, flags and stream of the last frame of the read before
        self._tries = 0
        self._held = b""  # the beginning of a frame: too little to judge it
        self._last = 0  # the highest stream that the peer has opened
        self._gaps: list[range] = []
        self._ends: dict[int, bool] = {}  # True where the peer sent RST_STREAM
        self._forgotten = 0  # up to this some ends are not known any more
        # Of the frames that were looked at and not yet given to the library: streams
        # that they were for, with whether they ended those, and the bytes of DATA.
        self._seen: dict[int, bool] = {}
        self._received = 0

    def close(self) -> None:
        """The connection is gone. It is let go: it has this as well, and what it still holds, answers
        that no window took among it, would be left to the garbage collector."""
        del self._connection

    def ended(self, stream_id: int, by_peer: bool) -> bool:
        """A stream has ended by RST_STREAM: the peer's, or ours or the library's own.
        False when that was known."""
        ends = self._ends
        if stream_id in ends or stream_id <= self._forgotten:
            return False
        ends[stream_id] = by_peer
        if len(ends) > _KEPT:
            oldest = next(iter(ends))
            del ends[oldest]
            self._forgotten = max(self._forgotten, oldest)
        return True

    def screen(self, data: bytes) -> bytes:
        """Deal with what is unusual; the rest is for the library. H2Error comes through."""
        if self._held:
            data, self._held = self._held + data, b""
        if self._skip < 0:
            data = self._find_frame(data)
            if self._skip < 0:
                return data
        self._last = max(self._last, self._connection.latest)
        position, end = self._skip, len(data)
        fed = position if self._dropping else 0
        self._dropping = False
        kind, flags, stream_id = self._cut
        while position < end:
            if self._left <= 0:
                self.new = False
                if not self._looks.take(self._connection.turn.now):
                    self._suspend()
                    return data[fed:]
                self._left = FRAMES
            if end - position < _HEAD_SIZE:
                self._cut = kind, flags, stream_id
                return self._hold_back(data, fed, position, _goes_on(kind, flags))
            size, kind, flags, stream_id = _head(data, position)
            if end - position < min(_HEAD_SIZE + size, _JUDGED_SIZE):
                self._cut = kind, flags, stream_id
                return self._hold_back(data, fed, position, True)
            self._left -= 1
            after = position + _HEAD_SIZE + size
            if not self._is_usual(kind, flags, stream_id, size, data, position):
                self._feed(data[fed:position])
                fed = position
                if not self._connection.given_up and self._judge(kind, stream_id, size, data, position):
                    fed = after  # the library must not see it
                if self._connection.given_up:
                    return b""
                if kind <= _HEADERS and stream_id in self._connection.streams:
                    self._seen[stream_id] = bool(flags & _END_STREAM)
                    self._received = size if kind == _DATA else 0
            position = after
        self._skip = position - end
        self._dropping = fed > end
        self._cut = kind, flags, stream_id
        self._forget_told(position > end or _goes_on(kind, flags))
        return data[fed:]

    def _hold_back(self, data: bytes, fed: int, position: int, goes_on: bool) -> bytes:
        self._held = data[position:]
        self._skip = 0
        self._forget_told(goes_on)
        return data[fed:position]

    def _forget_told(self, goes_on: bool) -> None:
        """What was looked at is the library's now, which tells of it; but not of the end of a stream
        whose frame or header block goes on in the next read."""
        stream_id = self._cut[2]
        ended = goes_on and self._seen.get(stream_id, False)
        self._forget_seen()
        if ended:
            self._seen[stream_id] = True

    def _is_usual(self, kind: int, flags: int, stream_id: int, size: int, data: bytes, position: int) -> bool:
        """Whether nothing has to be known of the streams to let this frame pass: the
        library is right about it, or it is what an honest peer sends."""
        if kind <= _HEADERS:
            return self._is_message(kind, flags, stream_id, size)
        if kind == _WINDOW_UPDATE:
            return stream_id == 0 or size != 4 or 0 < _increment(data, position) < _LARGE_INCREMENT
        if kind == _RST_STREAM:
            self._seen[stream_id] = True
        elif kind == _PRIORITY:
            return size == 5 and stream_id != 0 and _increment(data, position) != stream_id
        return True

    def _is_message(self, kind: int, flags: int, stream_id: int, size: int) -> bool:
        """DATA or HEADERS, where they may be."""
        ended = self._seen.get(stream_id)
        if ended is None:
            stream = self._connection.streams.get(stream_id)
            if stream is None:
                if kind == _DATA or not self._peer_opens or stream_id <= self._last or not stream_id & 1:
                    return False
                self._open(stream_id)
                ended = False
            else:
                ended = stream.remote_ended or (kind == _DATA and not stream.may_get_data)
        if ended:
            return False
        if kind == _DATA and size > _LARGE_DATA:
            self._received += size
            if self._window(stream_id) < self._received:
                return False
        self._seen[stream_id] = bool(flags & _END_STREAM)
        return True

    def _open(self, stream_id: int) -> None:
        """The peer begins a stream."""
        if stream_id > self._last + 2:
            self._gaps.append(range(self._last + 1, stream_id))
            del self._gaps[:-_KEPT]
        self._last = stream_id
        if len(self._connection.streams) + len(self._seen) >= MAX_STREAMS:
            self.ended(stream_id, by_peer=False)  # the library refuses it, and tells nobody

    def _window(self, stream_id: int) -> int:
        """What the peer may still send on a stream; nothing on one that is new."""
        try:
            return int(self._connection.h2.stream_local_window_size(stream_id))
        except H2Error:
            return 0

    def _judge(self, kind: int, stream_id: int, size: int, data: bytes, position: int) -> bool:
        """Answer a frame for what it is, everything before it being told; True when the
        library must not see it."""
        connection = self._connection
        stream = connection.streams.get(stream_id)
        if kind == _PRIORITY:
            if stream_id == 0:
                connection.give_up(ErrorCode.PROTOCOL_ERROR)  # RFC 9113 6.3
            elif stream is not None:
                self._break(stream, ErrorCode.PROTOCOL_ERROR if size == 5 else ErrorCode.FRAME_SIZE_ERROR)
            return True
        if kind == _WINDOW_UPDATE:
            return self._judge_increment(stream, stream_id, _increment(data, position))
        if stream is None:
            self._judge_closed(kind, stream_id)
            return False
        if not connection.write_paused:
            connection.settle()  # what the library has found wrong: behind it more may come on the stream
        if stream.closed:
            return False
        if stream.remote_ended:
            self._break(stream, ErrorCode.STREAM_CLOSED)  # RFC 9113 5.1
        elif kind == _DATA and not stream.may_get_data:
            self._break(stream, ErrorCode.PROTOCOL_ERROR)  # RFC 9113 8.1
        elif kind == _DATA and size > self._window(stream_id):
            self._break(stream, ErrorCode.FLOW_CONTROL_ERROR)  # RFC 9113 6.9.1
        return False  # it counts for the connection: its window, the field tables

    def _judge_increment(self, stream: Any, stream_id: int, increment: int) -> bool:
        """A WINDOW_UPDATE of a stream that is zero or large."""
        code = ErrorCode.PROTOCOL_ERROR  # RFC 9113 6.9
        if increment:
            try:
                window = self._connection.h2.stream_remote_window_size(stream_id)
            except H2Error:
                return False
            if window + increment <= _MAX_WINDOW:
                return False
            code = ErrorCode.FLOW_CONTROL_ERROR  # RFC 9113 6.9.1
        if stream is not None:
            self._break(stream, code)
        return stream is not None

    def _judge_closed(self, kind: int, stream_id: int) -> None:
        """DATA or HEADERS on a stream that is not open (RFC 9113 5.1, 5.1.1)."""
        connection = self._connection
        if not connection.was_opened(stream_id, self._last):
            return  # the library knows
        if connection.write_paused:
            return  # what the library itself has reset is known only once that is written
        connection.settle()
        by_peer = self._ends.get(stream_id)
        if by_peer:
            self._left = FRAMES
            connection.reset_closed(stream_id)
        elif by_peer is None and stream_id > self._forgotten and not connection.draining:
            passed_over = kind == _HEADERS and any(stream_id in gap for gap in self._gaps)
            connection.give_up(ErrorCode.PROTOCOL_ERROR if passed_over else ErrorCode.STREAM_CLOSED)

    def _break(self, stream: Any, code: int) -> None:
        """Who breaks a rule is looked at for longer."""
        self._left = FRAMES
        self._connection.break_stream(stream, code)

    def _feed(self, data: bytes) -> None:
        self._connection.feed(data)
        self._forget_seen()

    def _forget_seen(self) -> None:
        self._seen.clear()
        self._received = 0

    def _suspend(self) -> None:
        """Enough was seen for now. Where a frame begins is not known afterwards."""
        self._left = FRAMES
        self._skip = -1
        self._tries = _TRIES
        self._forget_seen()
        self.since = self._looks.next(self._connection.turn.now)

    def _find_frame(self, data: bytes) -> bytes:
        """Find out where a frame begins; what is left of the read. When the library tells of
        something at a byte and at none before it, a frame ended there, whatever the bytes look
        like. A read usually begins with a frame, so that byte is tried."""
        if len(data) < _HEAD_SIZE:
            return data
        end = _HEAD_SIZE + _head(data, 0)[0]
        if end <= len(data) and not self._connection.feed(data[: end - 1]):
            if self._connection.feed(data[end - 1 : end]):
                self._skip = 0
            data = data[end:]
        elif end <= len(data):
            data = data[end - 1 :]
        if self._skip < 0:
            self._tries -= 1
            if not self._tries:
                self._suspend()
        return data


def _goes_on(kind: int, flags: int) -> bool:
    """Whether a header block goes on in the next frame."""
    return kind in (_HEADERS, _CONTINUATION) and not flags & _END_HEADERS


def _head(data: bytes, position: int) -> tuple[int, int, int, int]:
    """Size of the payload, type, flags and stream of a frame."""
    word, flags, stream_id = _HEAD(data, position)
    return word >> 8, word & 0xFF, flags, stream_id & _MAX_WINDOW


def _increment(data: bytes, position: int) -> int:
    """The number of 31 bits that a payload begins with."""
    found: int = _U32(data, position + _HEAD_SIZE)[0] & _MAX_WINDOW
    return found
