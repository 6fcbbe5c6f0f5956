"""What an HTTP/2 connection does about a peer that breaks the rules or floods it.

Nothing of it runs for an ordinary read of an ordinary peer: `careful_from` is the time
from which on a read is looked at first, and a read that made many events is told in
parts, so that other connections get their turn in between. docs/adr/0016 and 0017 tell
why it is done so.
"""

import asyncio
from typing import Any

from sidecar.codec import h2
from sidecar.codec.h2 import Connection, ErrorCode, H2Error, RequestReceived, ResponseReceived
from sidecar.model.outcome import Failure
from sidecar.policy.calm import Calm
from sidecar.proxy.runtime import Runtime, Turn
from sidecar.wire.h2_watch import Watch

# From a peer that sent a read of many events, a large read is parsed in parts of this
# size, until one of them makes few.
_PART = 1024
_FEW_EVENTS = 8
# The same while a read is told in which the peer resets, or makes us reset: each of those
# frames may begin a request, with a connection of its own, and end it.
_RUDE_PART = 128
_RUDE = ("rapid_reset", "stream_error")
# More bytes than this without an event are no frame and no header block that has yet to
# end, but frames that the library takes no notice of. Honest ones are the rest of uploads
# that were cut short, as many as have their windows in it.
_SILENT_BYTES = 32 * 1024 * 1024
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
        "_dense",
        "_held",
        "_large",
        "_rude",
        "_silent",
        "_unread",
        "_updates",
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

    def __init__(self, runtime: Runtime, peer_opens: bool, preface: int) -> None:
        self._watch = Watch(self, runtime.looks, peer_opens, preface)
        self._calm = Calm()
        self._updates = UPDATES
        self._dense = True  # whether the peer's reads make many events; nobody knows yet
        self._large = False  # whether this read may hold a large header list
        self._rude = False  # whether what is being told cost something of a budget
        self._silent = 0  # bytes since the last event
        self._held = False  # whether the transport was told to read no more
        self._unread = b""  # from `_at` on, what was read and not parsed
        self._at = 0
        self._backlog: list[Any] = []
        self.careful_from = 0.0
        self.given_up = False

    # The slow way of a read.

    def _carefully(self, data: bytes) -> bytes:
        """Look at a read first; what of it is to be parsed now."""
        if self.given_up:
            self._discard(data)
            return b""
        if self._unread or self._backlog:
            self._unread += data
            return b""
        if self._dense and len(data) > _PART:
            self._unread, self._at = data, _PART
            data = data[:_PART]
            self._hold()
        return self._screened(data)

    def _quiet(self, size: int) -> bool:
        """A read without an event ended inside a frame, or the library took no notice of it."""
        self._silent += size
        if self._silent > _SILENT_BYTES:
            self.give_up(ErrorCode.ENHANCE_YOUR_CALM, "useless_frames")
        return True

    def _discard(self, data: bytes) -> None:
        """The peer goes on after the end."""
        self._silent += len(data)
        if self._silent > _FAREWELL_BYTES and not self._held and self.transport is not None:
            self._held = True
            self.transport.pause_reading()

    def _screened(self, data: bytes) -> bytes:
        watch = self._watch
        if self.turn.now >= watch.since:
            data = watch.screen(data)
        self.careful_from = 0.0 if self._unread or self._backlog else watch.since
        return data

    def _in_parts(self, events: list[Any]) -> list[Any]:
        """The first of many events; the others follow in the next turns."""
        self._dense = True
        self.careful_from = 0.0
        self._hold()
        self._backlog += events
        return self._next_part()

    def _next_part(self) -> list[Any]:
        """Taken off the backlog. A head keeps what came right behind it: whether it came
        alone means something."""
        backlog = self._backlog
        # Who asks for so much at once waits a little longer, and others do not.
        cut = self.many_events // 4
        if cut < len(backlog) and type(backlog[cut - 1]) in _HEADS:
            cut += 1
        part = backlog[:cut]
        del backlog[:cut]
        return part

    def _hold(self) -> None:
        """Read no more until what was read is dealt with, and others had their turn."""
        if self._held or self.transport is None:
            return
        self._held = True
        self.transport.pause_reading()
        self.turn.later(self._go_on)

    def _go_on(self) -> None:
        """The next part of what was read."""
        if self.closed or self.given_up:
            self._unread = b""
            self._backlog.clear()
            if self._silent <= _FAREWELL_BYTES:
                self._let_go()
            return
        turn = self.turn
        turn.begin()
        self._large = True
        try:
            if self._backlog:
                self._dispatch(self._next_part())
            elif self._unread:
                self._parse_part()
            if not self.dirty and self.h2.want_write:
                turn.mark(self)
            if self._backlog or self._unread:
                turn.later(self._go_on)
            else:
                self._let_go()
        except H2Error as error:
            self._fail(error)
        except Exception as error:
            self.on_crash(error)
        finally:
            turn.end()

    @property
    def unread(self) -> bool:
        """Whether something that was read is told in the next turns."""
        return bool(self._unread or self._backlog)

    def _let_go(self) -> None:
        """Read again."""
        if self._held and self.transport is not None:
            self._held = self._rude = False
            self.careful_from = 0.0 if self.given_up else self._watch.since
            self.transport.resume_reading()

    def _parse_part(self) -> None:
        size = _RUDE_PART if self._rude else _PART
        end = self._at + size if self._dense else len(self._unread)
        data, self._at = self._unread[self._at : end], end
        if end >= len(self._unread):
            self._unread, self._at = b"", 0
        self._dense = self._rude
        self.h2.receive_data(self._screened(data))
        events = self.h2.events()
        if len(events) > _FEW_EVENTS:
            self._dense = True
        if len(events) > self.many_events:
            self._backlog += events
            events = self._next_part()
        self._dispatch(events)

    def _tell_rest(self) -> None:
        """What was read and not told yet: the connection is gone, its last words are not."""
        backlog, self._backlog = self._backlog, []
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
        self._dense = True  # frames that have to be judged are work as well
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
        self._rude = self._rude or reason in _RUDE
        if not self._calm.spend(reason, self.turn.now, amount):
            self.give_up(ErrorCode.ENHANCE_YOUR_CALM, reason)

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
        self._silent = 0
        if self._held:
            self.turn.later(self._go_on)

    def _gone_wrong(self, code: int) -> None:
        """The library has given up on the peer, and its GOAWAY is about to be written."""
        if self.given_up:
            return  # it was told to
        if code == ErrorCode.ENHANCE_YOUR_CALM:
            self._abused("useless_frames")
        self.write_now()
        self._begin_farewell()

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
