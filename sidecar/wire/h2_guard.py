"""What an HTTP/2 connection does about a peer that breaks the rules or floods it.

Nothing of it runs for an ordinary read of an ordinary peer on a busy process: `careful_from`
is the time from which on a read is looked at first. That of a peer which is new, or has
made us wary, is then parsed in pieces and told event by event, for as long as a slice of
sidecar.wire.rest lasts; what is left over has to wait. So does what is left of a read that
made many events. docs/adr/0016 and 0017 tell why it is done so.
"""

import asyncio
from collections import deque
from typing import Any

from sidecar.codec import h2
from sidecar.codec.h2 import Connection, ErrorCode, H2Error, RequestReceived, ResponseReceived, size_of_lists
from sidecar.model.outcome import Failure
from sidecar.policy.calm import Calm
from sidecar.proxy.runtime import Runtime, Turn
from sidecar.wire.h2_watch import Watch
from sidecar.wire.turn import BULK, SMALL

# Bytes that are parsed at once, of a peer of which nobody knows what they cost; then twice as
# many, or half, as long as they took less, or more, than PIECE_SECONDS.
_PIECE = 128
_SMALLEST_PIECE = 64
_LARGEST_PIECE = 64 * 1024
_PIECE_SECONDS = 0.000_03
# A read that took longer than this to parse, for so many bytes of header lists, makes all connections'
# be parsed in small pieces, for so many seconds: a few bytes may be much, and who sends them may do it on
# one connection after the other.
_DEAR_SECONDS = 0.005
_DEAR_BYTES = 1024 * 1024
_ALARM_SECONDS = 60.0
# A new connection's first calls need not wait for others, when they are no more than this.
_FEW_BYTES = 1024
# More bytes than this without an event are no frame and no header block that has yet to
# end, but frames that the library takes no notice of. Honest ones are the rest of uploads
# that were cut short, as many as have their windows in it.
_SILENT_BYTES = 32 * 1024 * 1024
# The bytes of a header block, or of a frame, that is told when its last byte has come.
_LARGEST_FRAME = 256 * 1024
# Who has used up so much of a budget is read with care, for so many seconds.
_WARY = 0.05
_WARY_SECONDS = 10.0
# A peer that was given up may send so much more until it has read why.
_FAREWELL_BYTES = 256 * 1024
# WINDOW_UPDATEs are counted by this many: one of them costs next to nothing.
UPDATES = 1000


class Guarded(asyncio.Protocol):
    """The part of a connection that is on its guard."""

    __slots__ = (
        "_at",
        "_backlog",
        "_calm",
        "_cut",
        "_dense",
        "_held",
        "_ignored",
        "_large",
        "_let_go",
        "_piece",
        "_silent",
        "_unread",
        "_updates",
        "_waiting",
        "_wary_until",
        "_watch",
        "careful_from",
        "given_up",
    )

    # What the rest of the connection brings along.
    closed: bool
    dirty: bool
    draining: bool
    h2: Connection
    runtime: Runtime
    streams: dict[int, Any]
    transport: Any
    turn: Turn
    write_paused: bool
    _ending: bool

    side = ""
    # So many events of one read are told at once.
    many_events = 256
    # See sidecar.wire.rest.
    steps = 32

    def __init__(self, runtime: Runtime, peer_opens: bool, preface: int) -> None:
        self._watch = Watch(self, runtime.looks, peer_opens, preface)
        self._calm = Calm()
        self._updates = UPDATES
        self._dense = True  # whether a large read may make much work; nobody knows yet
        # Whether this read may hold a large header list. Odd when the one before it made no event.
        self._large = 0
        self._let_go = False  # there was no memory for it
        self._silent = 0  # bytes without an event, but for what was forgiven
        self._cut = False  # whether the last piece ended within a frame, as far as one can tell
        self._wary_until = 0.0  # the turn's time up to which every read is looked at
        self._ignored = 0  # bytes since the connection was given up
        self._held = False  # whether the transport was told to read no more
        self._unread = b""  # from `_at` on, what was read and not parsed
        self._at = 0
        self._piece = _PIECE
        self._backlog: deque[Any] = deque()  # events that were not told
        self._waiting: list[Any] = []  # who wants to know when all is told
        self.careful_from = 0.0
        self.given_up = False

    # The slow way of a read.

    def _in_slices(self, data: bytes) -> bool:
        """Deal with a read in slices, unless it is an ordinary one of an ordinary peer."""
        if self.given_up:
            self._discard(data)
        elif self._unread or self._backlog:
            self._unread += data
        elif self._watch.new or self._wary or (self._dense and len(data) >= self.turn.large):
            self._unread, self._at = data, 0
            rest = self.turn.rest
            if (rest.waits and len(data) > _FEW_BYTES) or rest.slice(self):
                self._hold()
        else:
            return False
        return True

    def _looked_at(self, data: bytes) -> bytes:
        """What the watch leaves of an ordinary read."""
        data = self._screened(data)
        self._next_care()
        return data

    @property
    def _wary(self) -> bool:
        return self.turn.now < self._wary_until

    def _next_care(self) -> None:
        self.careful_from = 0.0 if self.given_up or self._wary else self._watch.since

    def _quiet(self, size: int) -> bool:
        """A read without an event ended inside a frame, or the library took no notice of it."""
        if not self._large & 1:
            self._forgive()  # there was an event before it
        self._silent += size
        if self._silent > _SILENT_BYTES:
            self.give_up(ErrorCode.ENHANCE_YOUR_CALM, "useless_frames")
        elif self._silent > _WARY * _SILENT_BYTES:
            self._beware()
        self._too_much(size)
        return True

    def abort(self) -> None:
        """Cut the connection."""
        raise NotImplementedError

    def _too_much(self, size: int) -> bool:
        """There is no memory for a head, and nothing is under way that this would break off."""
        if not self.runtime.growth.took(size) or self.streams:
            return False
        if not self._let_go:  # what was read before it was cut is told in pieces
            self._let_go = True
            self.runtime.places.refused["pressure"] += 1
            self.abort()
        return True

    def _forgive(self) -> None:
        """As many of the bytes without an event as may have been a frame that now is told."""
        self._silent = max(0, self._silent - _LARGEST_FRAME)

    def _beware(self) -> None:
        """From now on every read is looked at, for a while."""
        self._dense = True
        self._wary_until = self.turn.now + _WARY_SECONDS
        self.careful_from = 0.0

    def _discard(self, data: bytes) -> None:
        """The peer goes on after the end."""
        self._ignored += len(data)
        if self._ignored > _FAREWELL_BYTES and not self._held and self.transport is not None:
            self._held = True
            self.transport.pause_reading()

    def _screened(self, data: bytes) -> bytes:
        watch = self._watch
        return watch.screen(data) if self.turn.now >= watch.since else data

    def _in_parts(self, events: list[Any]) -> list[Any]:
        """The first of many events; the others follow in the next turns."""
        if len(events) > 4 * self.many_events:
            self._beware()
        if self._was_dear() and size_of_lists(events) > _DEAR_BYTES:
            self._alarm()
        self._dense = True
        self.careful_from = 0.0
        self._backlog += events
        self._hold()
        return self._next()

    def _was_dear(self) -> bool:
        """Whether this turn took long so far: for what was read, or because the process had to wait."""
        return self.runtime.clock() - self.turn.now > _DEAR_SECONDS

    def _alarm(self) -> None:
        """No read that may be dear is parsed whole for a while."""
        turn = self.turn
        turn.large = SMALL
        turn.calm_from = turn.now + _ALARM_SECONDS

    def _be_careful(self) -> None:
        """A read comes that is large as long as there is reason for alarm."""
        turn = self.turn
        if turn.now < turn.calm_from:
            self._dense = True
        else:
            turn.large = BULK

    def _next(self) -> list[Any]:
        """An event off the backlog. A head keeps what came right behind it: whether it came
        alone means something."""
        backlog = self._backlog
        part = [backlog.popleft()]
        if type(part[0]) in _HEADS and backlog and type(backlog[0]) not in _HEADS:
            part.append(backlog.popleft())
        return part

    def _hold(self) -> None:
        """Read no more until what was read is dealt with, and others had their turn."""
        if self._held or self.transport is None:
            return
        self._held = True
        self.transport.pause_reading()
        self.turn.rest.add(self)

    def step(self) -> bool:
        """Tell a little of what was read; whether there is more."""
        try:
            if self.closed or self.given_up:
                self._unread = b""
                self._backlog.clear()
            elif self._backlog:
                self._dispatch(self._next())
            elif self._unread:
                self._parse_piece()
            if not self.dirty and self.h2.want_write:
                self.turn.mark_first(self)  # see data_received
        except H2Error as error:
            self._fail(error)
        except Exception as error:
            self.on_crash(error)
        if self._unread or self._backlog:
            return True
        self._all_told()
        return False

    @property
    def unread(self) -> bool:
        """Whether something that was read is told in the next turns."""
        return bool(self._unread or self._backlog)

    def tell_later(self, waiting: Any) -> None:
        """Have `waiting.on_turn_end()` called when that is told."""
        self._waiting.append(waiting)

    def _all_told(self) -> None:
        """Read again."""
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            self.turn.at_end(one)
        self._large = self._cut
        self._next_care()
        if self._held and self.transport is not None and self._ignored <= _FAREWELL_BYTES:
            self._held = False
            self.transport.resume_reading()

    def _parse_piece(self) -> None:
        size = self._piece if self.turn.large == BULK else min(self._piece, SMALL)
        at, self._at = self._at, self._at + size
        data = self._unread[at : self._at]
        if self._at >= len(self._unread):
            self._unread, self._at = b"", 0
        self._large = True
        clock = self.runtime.clock
        began = clock()
        self.h2.receive_data(self._screened(data))
        events = self.h2.events()
        if clock() - began > _PIECE_SECONDS:
            self._piece = max(_SMALLEST_PIECE, size // 2)
            if self._was_dear() and size_of_lists(events) > _DEAR_BYTES:
                self._alarm()
        elif len(data) == size:
            self._piece = min(_LARGEST_PIECE, size * 2)
        self._dense = self._piece < BULK or self._wary
        self._cut = not events and self._quiet(len(data))
        if events:
            self._forgive()
            self._backlog += events
            self._dispatch(self._next())

    def _tell_rest(self) -> None:
        """What was read and not told yet: the connection is gone, its last words are not."""
        backlog = [*self._backlog]
        self._backlog.clear()
        unread, self._unread = self._unread[self._at :], b""
        if self.given_up:
            return
        try:
            self._dispatch(backlog)
            # Through the watch: it may keep the beginning of a frame's head that was cut.
            self.h2.receive_data(self._screened(unread))
            self._dispatch(self.h2.events())
        except H2Error:
            pass  # its last words were none

    # For the watch.

    @property
    def latest(self) -> int:
        """The highest stream that the peer has opened and that was told."""
        return 0

    def was_opened(self, stream_id: int, seen: int) -> bool:
        """Whether a stream is not idle any more. `seen` is the highest that was looked at."""
        raise NotImplementedError

    def feed(self, data: bytes) -> bool:
        """Parse and tell; whether there was anything to tell. H2Error as from the library."""
        if not data:
            return False
        self.h2.receive_data(data)
        events = self.h2.events()
        self._dispatch(events)
        return bool(events)

    def settle(self) -> None:
        """Write what is queued, and tell what came of it."""
        self.write_now()
        self._dispatch(self.h2.events())

    def break_stream(self, stream: Any, code: int) -> None:
        """End a stream for what the peer did on it. Written at once: from then on the
        library takes no notice of what comes on it."""
        receiver = stream.receiver
        complete = self._is_complete(stream)
        self.drop(stream, int(code))
        self.write_now()
        self.spend("stream_error")
        if receiver is None or complete:
            return
        try:
            receiver.on_reset(Failure.PROTOCOL)
        except Exception as error:
            self.runtime.on_crash(error)

    def reset_closed(self, stream_id: int) -> None:
        """RST_STREAM for one that the peer itself has reset (RFC 9113 5.1)."""
        self.write_now()
        if self.transport is not None:
            self.transport.write(h2.rst_stream(stream_id, int(ErrorCode.STREAM_CLOSED)))
        self.spend("stream_error")

    # Budgets.

    def spend(self, reason: str, amount: int = 1) -> None:
        """The peer did what is bounded by a budget: beyond that the connection ends."""
        level = self._calm.spend(reason, self.turn.now, amount)
        if level > 1:
            self.give_up(ErrorCode.ENHANCE_YOUR_CALM, reason)
        elif level > _WARY:
            self._beware()

    def _many_updates(self) -> None:
        self._updates = UPDATES
        self.spend("window_update", UPDATES)

    def _closed_by_error(self, event: Any) -> None:
        """A stream ended by a reset. One that neither side has asked for is the library's
        answer to an error of the peer."""
        if self._watch.ended(event.stream_id, by_peer=False):
            self.spend("stream_error")

    def give_up(self, code: int, reason: str = "") -> None:
        """End the connection (RFC 9113 5.4.1). `reason` is why it is called abuse, if it is."""
        if self.given_up or self.closed or self._ending:
            return
        self._begin_farewell()
        if reason:
            self._abused(reason)
        try:
            self.h2.terminate_connection(int(code))
            last = self.h2.data_to_send()
        except H2Error:  # the library has given up itself
            last = h2.goaway(int(code), self.latest)
        if self.transport is not None:
            self.transport.write(last)
        self._end()

    def _begin_farewell(self) -> None:
        self.given_up = True
        self.careful_from = 0.0

    def _gone_wrong(self, event: Any) -> None:
        """The library has given up on the peer, and its GOAWAY is about to be written."""
        if self.given_up:
            return  # it was told to
        if event.error_code == ErrorCode.ENHANCE_YOUR_CALM:
            self._abused("useless_frames")
        self.write_now()
        self._begin_farewell()
        if h2.opened_too_many(event):
            # RFC 9113 5.1.2 asks for PROTOCOL_ERROR. Another GOAWAY (6.8) says what it was.
            self._abused("too_many_streams")
            if self.transport is not None:
                self.transport.write(h2.goaway(int(ErrorCode.ENHANCE_YOUR_CALM), self.latest))

    def _abused(self, reason: str) -> None:
        self.runtime.abuse.ended(self.side, self.peer_name, reason)

    def _fail(self, error: H2Error) -> None:
        """The library gave up on the peer's bytes: say why, and close."""
        if isinstance(error, h2.DenialOfServiceError):
            self.give_up(ErrorCode.ENHANCE_YOUR_CALM, h2.abuse_reason(error))
        else:
            self.give_up(ErrorCode.PROTOCOL_ERROR)

    # Of the connection and its roles.

    @property
    def peer_name(self) -> str:
        """Who is at the other end, for the log."""
        raise NotImplementedError

    def write_now(self) -> None:
        """Write in the middle of a turn."""
        raise NotImplementedError

    def drop(self, stream: Any, code: int) -> None:
        """RST_STREAM, and forget the stream."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write what was queued."""
        raise NotImplementedError

    def on_crash(self, error: Exception) -> None:
        """A bug of ours met the connection as a whole."""
        raise NotImplementedError

    def _is_complete(self, stream: Any) -> bool:
        """Whether a stream's receiver has nothing more to hear."""
        raise NotImplementedError

    def _dispatch(self, events: list[Any]) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


_HEADS = frozenset((RequestReceived, ResponseReceived))
