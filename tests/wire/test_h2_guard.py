"""sidecar.wire.h2_guard and h2_watch: long reads in parts, budgets, and who is looked at when."""

import itertools
from collections.abc import Callable
from typing import Any

import hpack
import pytest

from sidecar.codec.h2 import MAX_TARGET
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.outcome import Failure
from sidecar.policy.calm import BUDGETS
from sidecar.policy.pace import Pace
from sidecar.wire import h2_guard
from sidecar.wire.gone import Gone
from sidecar.wire.h2_client import H2ClientConnection
from sidecar.wire.h2_guard import UPDATES
from sidecar.wire.h2_server import H2ServerConnection
from sidecar.wire.h2_watch import FRAMES
from sidecar.wire.rest import SLICE
from sidecar.wire.turn import BULK, SMALL
from tests.security.http2 import frames as f
from tests.security.http2.bombs import Bomb, huffman
from tests.wire.h2_peers import Downstream, FakeRuntime, FakeTransport, Heard, Upstream, request
from tests.wire.test_h2_server import answer

OK = ResponseHead(200, [])
POST = f.POST
GET = f.GET


class Raw:
    """A server connection of ours, and the bytes of its client."""

    def __init__(self, pace: Pace | None = None, runtime: FakeRuntime | None = None) -> None:
        self.runtime = runtime or FakeRuntime()
        self.on_begin: Callable[[], object] = lambda: None
        self.transport = FakeTransport()
        self.begun: list[tuple[Any, RequestHead, Heard]] = []
        self.connection = H2ServerConnection(self.runtime, self._begin, pace=pace or Pace(first=0.0, idle=0.0))  # type: ignore[arg-type]
        self.connection.connection_made(self.transport)
        self.say(f.PREFACE + f.settings() + f.settings(ack=True))
        self.run()

    def _begin(self, stream: Any, head: RequestHead, end: bool) -> None:
        heard = Heard(stream)
        stream.receiver = heard
        self.begun.append((stream, head, heard))
        self.on_begin()

    def read(self, *parts: bytes) -> None:
        """One read; what is to be done later is left for `run`."""
        self.connection.data_received(b"".join(parts))

    def say(self, *parts: bytes) -> None:
        """One read, and all that comes of it."""
        self.read(*parts)
        self.run()

    def run(self) -> None:
        self.runtime.loop.run()

    def said(self) -> list[f.Frame]:
        """The frames that were written since it was asked last."""
        data, found = self.transport.take(), []
        while data:
            size = int.from_bytes(data[:3])
            found.append(f.Frame(data[3], data[4], int.from_bytes(data[5:9]), data[9 : 9 + size]))
            data = data[9 + size :]
        return found

    def codes(self) -> list[str]:
        """RST_STREAM and GOAWAY frames that were written."""
        return [str(frame) for frame in self.said() if frame.kind in (f.RST_STREAM, f.GOAWAY)]

    def pass_time(self, seconds: float) -> None:
        self.runtime.clock.advance(seconds)

    def look_away(self) -> None:
        """The first frames have gone by, and other connections have had what looks there are."""
        self.runtime.use_up_looks()
        self.say(f.ping() * FRAMES)


def gets(first: int, number: int) -> bytes:
    return b"".join(f.headers(stream, GET, end=True) for stream in range(first, first + 2 * number, 2))


class TestParts:
    def test_many_requests_of_one_read_begin_in_several_turns(self) -> None:
        raw = Raw()
        raw.read(gets(1, 180))
        told = [len(raw.begun)]
        assert not raw.transport.reading
        while raw.runtime.loop.soon:
            raw.runtime.loop.soon.pop(0)()
            told.append(len(raw.begun))
        assert told[0] <= 32
        assert max(after - before for before, after in itertools.pairwise(told)) <= 32
        assert [stream.id for stream, _, _ in raw.begun] == [*range(1, 361, 2)]
        assert raw.transport.reading

    def test_bytes_that_come_meanwhile_wait_for_their_turn(self) -> None:
        # A TLS layer may have some that it has read already.
        raw = Raw()
        raw.read(gets(1, 180))
        raw.read(gets(361, 90))
        raw.run()
        assert [stream.id for stream, _, _ in raw.begun] == [*range(1, 541, 2)]

    def test_a_few_are_told_at_once(self) -> None:
        raw = Raw()
        raw.read(gets(1, 14))  # a kilobyte
        assert len(raw.begun) == 14
        assert raw.transport.reading

    def test_large_reads_of_few_events_are_parsed_whole_from_the_second_on(self) -> None:
        raw = Raw()
        raw.say(f.headers(1, POST))
        body = f.data(1, bytes(16_000)) * 2
        raw.say(body)
        raw.read(body)
        assert raw.transport.reading
        (_, _, heard), *_ = raw.begun
        assert len(heard.body) == 64_000

    def test_what_ends_the_connection_ends_what_was_not_told(self) -> None:
        raw = Raw()
        raw.say(f.headers(1, POST))  # or the library takes the first GOAWAY for the end
        # The budget overflows before any request behind it is told: none begins.
        limit = BUDGETS["goaway"][0]
        raw.say(f.goaway() * (limit + 1), gets(3, 180))
        assert len(raw.begun) == 1
        assert raw.codes()[-1] == "GOAWAY(0, ENHANCE_YOUR_CALM)"

    # The first part ends within a frame's head with one of these or another.
    @pytest.mark.parametrize("size", [333, 512, 515, 700, 1024])
    def test_an_answer_that_was_read_before_the_server_left_is_told(
        self, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(h2_guard, "_PIECE", size)
        monkeypatch.setattr(h2_guard, "_LARGEST_PIECE", size)
        up = Upstream()
        asked = [up.ask() for _ in range(300)]
        up.pump()
        for stream, _ in asked:
            up.answer(stream.id)
        # The read is told in parts, and the socket is gone before the second one.
        up.connection.data_received(up.peer.data_to_send())
        assert not all(heard.ended for _, heard in asked)
        up.lose()
        assert all(heard.ended and heard.failure is None for _, heard in asked)

    @pytest.mark.parametrize("steps", range(1, 16))
    def test_an_answer_behind_which_the_library_has_closed_is_told(
        self, steps: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(H2ClientConnection, "steps", steps)
        up = Upstream()
        stream, heard = up.ask()
        up.pump()
        ok = f.headers(stream.id, [(b":status", b"200")]) + f.data(stream.id, b"ok", end=True)
        up.connection.data_received(f.goaway(0x7FFFFFFF) * 4 + f.goaway(stream.id) * 4 + ok)
        up.runtime.loop.run()
        assert bytes(heard.body) == b"ok"
        assert heard.ended
        assert heard.failure is None

    def test_an_end_that_is_written_meanwhile_is_told_behind_the_answer(self) -> None:
        up = Upstream()
        held = [up.ask(request(), b"x", end=False) for _ in range(300)]
        up.pump()
        for stream, _ in held:
            up.answer(stream.id)
        up.connection.data_received(up.peer.data_to_send())
        # All that is left of each exchange is the end of its request: written, it closes the stream.
        up.in_turn(lambda: [stream.send_data(b"", True) for stream, heard in held if not heard.ended])
        up.pump()
        assert all(heard.ended and heard.failure is None for _, heard in held)

    def test_a_connection_with_many_streams_ends_in_parts(self) -> None:
        raw = Raw()
        raw.say(gets(1, 60))
        raw.say(gets(121, 60))
        raw.say(gets(241, 60))
        raw.connection.connection_lost(None)
        gone = [heard.failure for _, _, heard in raw.begun]
        assert gone.count(Failure.CANCELLED) == Gone.steps
        raw.run()
        assert all(heard.failure is Failure.CANCELLED for _, _, heard in raw.begun)


class TestSlices:
    """A clock that moves with what is done: some of it is dear."""

    # What a request takes, and how many of them are begun in one slice.
    @pytest.mark.parametrize(("seconds", "number"), [(SLICE / 10, 10), (SLICE / 2, 2), (SLICE, 1), (SLICE * 100, 1)])
    def test_requests_are_begun_for_so_long(self, seconds: float, number: int) -> None:
        raw = Raw()
        raw.on_begin = lambda: raw.pass_time(seconds * 1.001)
        begun = []
        raw.read(gets(1, 60))
        while raw.runtime.loop.soon:
            begun.append(len(raw.begun))
            raw.runtime.loop.soon.pop(0)()
        begun.append(len(raw.begun))
        assert begun[-1] == 60
        assert max(after - before for before, after in itertools.pairwise([0, *begun])) == number

    def test_so_are_frames_that_are_judged_one_by_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        raw = Raw()
        raw.say(f.headers(1, POST) + f.reset(1))
        raw.transport.take()
        reset = raw.connection.reset_closed

        def slowly(stream_id: int) -> None:
            raw.pass_time(SLICE)
            reset(stream_id)

        monkeypatch.setattr(H2ServerConnection, "reset_closed", staticmethod(slowly))
        answered = []
        raw.read(f.data(1) * 100)
        while raw.runtime.loop.soon:
            answered.append(len(raw.codes()))
            raw.runtime.loop.soon.pop(0)()
        # A piece that takes so long is followed by a smaller one: seven frames of nine bytes.
        assert max(answered[1:]) <= 8
        assert sum(answered) + len(raw.codes()) == 100

    def test_cheap_bytes_are_parsed_in_large_pieces(self) -> None:
        raw = Raw()
        raw.say(f.headers(1, POST), f.data(1, bytes(60_000)))
        (_, _, heard), *_ = raw.begun
        assert len(heard.body) == 60_000
        raw.read(f.data(1, bytes(60_000)))  # whole
        assert len(heard.body) == 120_000
        assert raw.transport.reading

    @pytest.mark.parametrize("frames", [0, FRAMES])
    def test_a_read_that_was_dear_makes_those_of_all_be_parsed_in_small_pieces(self, frames: int) -> None:
        # Given three connections that have sent cheap DATA, which is parsed whole
        one = Raw()
        raws = [one, *(Raw(runtime=one.runtime) for _ in range(2))]
        body = f.data(1, bytes(16_000)) * 4
        parsed = [Dear(raw) for raw in raws]
        for raw, dear in zip(raws, parsed, strict=True):
            raw.say(f.headers(1, POST), f.ping() * frames, body)
            raw.say(body)
            raw.read(body)
            assert dear.sizes[-1] == len(body)
        # When one's heads are dear
        entry = b"\x40" + f.literal(b"x-a", b"v" * 3500)[1:]
        one.say(f.frame(f.HEADERS, 5, 3, f.block(GET) + entry))
        heads = b"".join(f.frame(f.HEADERS, 5, 5 + 2 * n, f.block(GET) + b"\xbe" * 10) for n in range(200))
        parsed[0].seconds = 0.0002
        one.say(heads)
        assert parsed[0].sizes[-1] == len(heads)
        # Then nobody's are parsed whole, whatever comes before them in their read
        for raw, dear in zip(raws, parsed, strict=True):
            dear.sizes.clear()
            raw.say(body + gets(1003, 200))
            assert max(dear.sizes) < SMALL + 14  # with what the watch had kept of the piece before it
        # And some time later they are again
        one.pass_time(61.0)
        for raw, dear in zip(raws, parsed, strict=True):
            for _ in range(3):
                raw.say(f.ping() + f.data(1, bytes(10_000)) + f.ping())
            assert dear.sizes[-1] > 10_000

    def test_a_pause_of_the_machine_is_no_such_read(self) -> None:
        # Given a process that now and then has to wait for a processor
        one = Raw()
        dear = Dear(one)
        one.say(f.headers(1, POST), f.ping() * FRAMES)
        body = f.data(1, bytes(16_000)) * 4
        one.say(body)
        one.say(body)
        # When it does while it parses ordinary heads
        dear.seconds = 0.0002
        one.say(gets(3, 200))
        # Then what is large is parsed as ever
        dear.seconds = 0.0
        one.say(body)
        one.say(body)
        assert dear.sizes[-1] == len(body)
        assert one.runtime.turn.large == BULK

    def test_two_connections_take_turns(self) -> None:
        one = Raw()
        other = Raw(runtime=one.runtime)
        log: list[str] = []

        def begins(name: str) -> Callable[[], None]:
            def begin() -> None:
                one.pass_time(SLICE)
                log.append(name)

            return begin

        for raw, name in ((one, "one"), (other, "other")):
            raw.on_begin = begins(name)
            raw.read(gets(1, 90))
        one.run()
        first, second = log.index("one"), log.index("other")
        assert log[max(first, second) :][:20] in (["one", "other"] * 10, ["other", "one"] * 10)

    def test_a_few_bytes_wait_for_nobody(self) -> None:
        one = Raw()
        other = Raw(runtime=one.runtime)
        one.read(gets(1, 200))
        assert not one.transport.reading
        other.read(gets(1, 14))
        assert len(other.begun) == 14

    def test_who_has_used_much_of_a_budget_is_read_with_care(self) -> None:
        raw = Raw()
        for stream in range(1, 2 * BUDGETS["rapid_reset"][0] // 10, 2):
            raw.say(f.headers(stream, GET, end=True) + f.reset(stream))
        raw.on_begin = lambda: raw.pass_time(SLICE)
        before = len(raw.begun)
        raw.read(gets(100_001, 10))
        assert len(raw.begun) == before + 1
        raw.run()
        assert len(raw.begun) == before + 10


class Dear:
    """The library's connection, which takes so many `seconds` for each head that is parsed."""

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self._h2 = raw.connection.h2
        raw.connection.h2 = self  # type: ignore[assignment]
        self.seconds = 0.0
        self.sizes: list[int] = []  # that were parsed at once

    def receive_data(self, data: bytes) -> None:
        self.sizes.append(len(data))
        self._h2.receive_data(data)
        self._raw.pass_time(self.seconds * data.count(b"service.test"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._h2, name)


class TestFarewell:
    def test_a_peer_that_goes_on_is_not_reset_before_it_can_read_why(self) -> None:
        raw = Raw()
        raw.say(f.priority(0, 1))
        assert raw.codes() == ["GOAWAY(0, PROTOCOL_ERROR)"]
        assert raw.transport.ended
        assert not raw.transport.closing
        raw.say(gets(1, 10))
        raw.say(bytes(200_000))
        assert raw.transport.reading
        raw.say(bytes(200_000))
        assert not raw.transport.reading
        assert raw.begun == []
        raw.runtime.timers.advance(3.0)
        assert raw.transport.aborted

    def test_it_may_be_in_the_middle_of_a_long_read(self) -> None:
        raw = Raw()
        raw.say(gets(1, 100), f.priority(0, 1), gets(201, 1000))
        assert raw.codes()[-1] == "GOAWAY(0, PROTOCOL_ERROR)"
        assert len(raw.begun) <= 100
        assert raw.transport.reading


def pong() -> bytes:
    """An answer to a PING that nobody sent."""
    return f.ping(ack=True)


class TestBudgets:
    @pytest.mark.parametrize(
        ("reason", "frame"), [("ping", f.ping), ("ping", pong), ("settings", f.settings), ("goaway", f.goaway)]
    )
    def test_a_flood_ends_the_connection(self, reason: str, frame: Callable[[], bytes]) -> None:
        raw = Raw()
        raw.say(f.headers(1, POST))  # or the library takes the first GOAWAY for the end
        burst, _ = BUDGETS[reason]
        for _ in range(burst // 10 + 1):
            raw.say(frame() * 10)
            raw.transport.take()
            if raw.connection.given_up:
                break
        assert raw.connection.given_up
        assert raw.runtime.abuse.counts["downstream", reason] == 1

    def test_resets_and_window_updates_are_counted(self) -> None:
        for reason, part in (
            ("rapid_reset", lambda stream: f.headers(stream, GET, end=True) + f.reset(stream)),
            ("window_update", lambda stream: f.window_update(0, 1) * UPDATES),
        ):
            raw = Raw()
            burst, _ = BUDGETS[reason]
            for index in range(burst + 1):
                raw.say(part(1 + 2 * index))
                raw.run()
                raw.transport.take()
                if raw.connection.given_up:
                    break
            assert raw.runtime.abuse.counts["downstream", reason] == 1, reason

    def test_data_of_nothing_but_padding_is_counted_as_empty(self) -> None:
        raw = Raw()
        raw.say(f.headers(1, POST))
        burst, _ = BUDGETS["useless_frames"]
        padding = f.frame(f.DATA, f.PADDED, 1, b"\xff" + bytes(255))
        raw.say(padding * burst)
        assert not raw.connection.given_up
        raw.say(padding)
        assert raw.codes() == ["GOAWAY(0, ENHANCE_YOUR_CALM)"]
        assert raw.runtime.abuse.counts["downstream", "useless_frames"] == 1

    def test_a_server_has_them_too(self) -> None:
        up = Upstream()
        up.ask()
        up.pump()
        up.connection.data_received(f.settings((3, 7)) * (BUDGETS["settings"][0] + 1))
        up.runtime.loop.run()
        assert up.connection.given_up
        assert up.runtime.abuse.counts["upstream", "settings"] == 1

    def test_frames_that_the_library_ignores_are_bounded_by_their_bytes(self) -> None:
        raw = Raw()
        raw.say(f.headers(1, POST) + f.reset(1))
        raw.look_away()
        junk = f.data(1, b"x") * 20_000
        for _ in range(300):
            raw.say(junk)
            if raw.connection.given_up:
                break
        assert raw.codes()[-1] == "GOAWAY(0, ENHANCE_YOUR_CALM)"
        assert raw.runtime.abuse.counts["downstream", "useless_frames"] == 1

    @pytest.mark.parametrize("size", [700, 5_000, 20_000, 60_000])
    def test_bytes_of_a_frame_that_has_not_ended_are_none_of_them(self, size: int) -> None:
        # The library tells of DATA when the frame has ended: here most reads make no event.
        raw = Raw()
        raw.say(f.headers(1, POST))
        data = f.data(1, bytes(65_535)) * 16
        for _ in range(64):  # 64 MiB in all
            for at in range(0, len(data), size):
                raw.say(data[at : at + size])
            raw.transport.take()
        assert not raw.connection.given_up
        (_, _, heard), *_ = raw.begun
        assert len(heard.body) == 64 * 16 * 65_535

    def test_a_bomb_of_small_bytes_is_a_head_that_is_too_large(self) -> None:
        raw = Raw()
        bomb = b"\x40" + f.literal(b"x-bomb", b"v" * 3900)[1:]
        raw.say(f.frame(f.HEADERS, 5, 1, f.block(GET) + bomb))
        raw.say(f.frame(f.HEADERS, 5, 3, f.block(GET) + b"\xbe" * 40))
        assert [stream.id for stream, _, _ in raw.begun] == [1]
        assert raw.runtime.refusals == [431]


class TestTargets:
    """Over 16 KiB they are answered 414, also where nobody looks and however reads are cut."""

    # As far as they go in what the library takes for one field, with and without Huffman's code.
    LONG = (
        f.string(b"/" + b"x" * MAX_TARGET),
        f.string(b"/" + b"x" * 65_535),
        f.string(huffman(MAX_TARGET), coded=True),
        f.string(huffman(104_855), coded=True),
    )

    @pytest.mark.parametrize("cut", [1, 9, 200, 5_000])
    @pytest.mark.parametrize("text", LONG, ids=len)
    def test_a_long_one(self, text: bytes, cut: int) -> None:
        # Given a connection of which nobody looks at what comes
        raw = Raw()
        raw.look_away()
        raw.said()
        # When a long target comes, its beginning in the read of another event
        long = target(1, text)
        raw.say(f.ping(), long[:cut])
        raw.say(long[cut:], f.ping())
        # Then it is refused, and nothing was begun
        (head,) = [frame for frame in raw.said() if frame.kind == f.HEADERS]
        assert fields_of(head)[b":status"] == b"414"
        assert raw.begun == []
        assert raw.runtime.refusals == [414]

    @pytest.mark.parametrize(
        "text", [f.string(b"/" + b"x" * (MAX_TARGET - 1)), f.string(huffman(MAX_TARGET - 1), True)]
    )
    def test_the_longest(self, text: bytes) -> None:
        raw = Raw()
        raw.say(target(1, text))
        assert [len(head.path) for _, head, _ in raw.begun] == [MAX_TARGET]

    def test_of_a_grpc_call(self) -> None:
        raw = Raw()
        raw.said()
        raw.say(target(1, self.LONG[0] + f.literal(b"content-type", b"application/grpc")))
        (head,) = [frame for frame in raw.said() if frame.kind == f.HEADERS]
        assert fields_of(head)[b"grpc-status"] == b"8"


def fields_of(head: f.Frame) -> dict[bytes, bytes]:
    """Of the first HEADERS on a connection."""
    return {bytes(name): bytes(value) for name, value in hpack.Decoder().decode(head.payload, raw=True)}


def target(stream: int, block: bytes) -> bytes:
    """A request whose :path is a string (RFC 7541 5.2), in as many frames as it takes (RFC 9113 6.10)."""
    return Bomb("", b"\x04" + block, 414).frames(stream, [each for each in GET if each[0] != b":path"])


class TestHonestClients:
    """None of them may ever be cut off."""

    def test_a_thousand_calls_cancelled_at_once_each_second(self) -> None:
        raw = Raw()
        stream = 1
        for _ in range(30):
            batch = range(stream, stream + 2000, 2)
            raw.say(*(f.headers(each, GET, end=True) for each in batch))
            raw.say(*(f.reset(each) for each in batch))
            raw.transport.take()
            raw.pass_time(1.0)
            stream += 2000
        assert len(raw.begun) == 30_000
        assert not raw.connection.given_up

    def test_pings_that_measure_the_bandwidth(self) -> None:
        raw = Raw()
        for _ in range(20_000):  # one for each round trip of 0.25 ms
            raw.say(f.ping())
            raw.pass_time(0.000_25)
            raw.transport.take()
        assert not raw.connection.given_up

    def test_a_window_update_for_each_of_many_small_messages(self) -> None:
        raw = Raw()
        raw.say(f.headers(1, POST))
        for _ in range(1000):
            raw.say(f.window_update(0, 5) + f.window_update(1, 5))
            raw.say((f.window_update(0, 5) + f.window_update(1, 5)) * 100)
            raw.pass_time(0.01)
        assert not raw.connection.given_up

    def test_a_connection_that_lives_for_a_week(self) -> None:
        raw = Raw()
        for hour in range(24 * 7):
            first = 1 + 40 * hour
            for stream in range(first, first + 40, 2):
                raw.say(f.headers(stream, POST), f.data(stream, b"x"), f.window_update(stream, 1), f.ping())
                raw.say(f.settings((4, 65_535)), f.reset(stream))
            raw.pass_time(3600.0)
            raw.transport.take()
        assert not raw.connection.given_up
        assert len(raw.begun) == 20 * 24 * 7

    def test_trailers_and_data_that_cross_our_resets(self) -> None:
        # A client that uploads, and whose answers come early: RST_STREAM(NO_ERROR) is on its way.
        raw = Raw()
        for stream in range(1, 401, 2):
            raw.say(f.headers(stream, POST))
            mine, _, _ = raw.begun[-1]
            raw.runtime.turn.begin()
            mine.send_head(OK, True)
            raw.runtime.turn.end()
            raw.say(f.data(stream, b"x" * 100), f.headers(stream, [(b"x-a", b"b")], end=True))
            raw.pass_time(0.02)
        assert not raw.connection.given_up
        assert len(raw.begun) == 200


class TestLooks:
    """The first frames of a connection are looked at, and the others as long as there are few."""

    WRONG = f.priority(0, 1)

    def test_at_all_of_them_as_long_as_there_are_few(self) -> None:
        raw = Raw()
        for _ in range(600):
            raw.say(f.ping() * 100)
            raw.pass_time(0.1)
        raw.say(self.WRONG)
        assert raw.codes() == ["GOAWAY(0, PROTOCOL_ERROR)"]

    def test_not_behind_the_first_frames_when_there_are_many(self) -> None:
        raw = Raw()
        raw.look_away()
        raw.say(self.WRONG)
        assert not raw.connection.given_up

    def test_a_busy_connection_is_one_of_many_frames(self) -> None:
        raw = Raw()
        for _ in range(100):
            raw.say(f.window_update(0, 1) * FRAMES)
        raw.say(self.WRONG)
        assert not raw.connection.given_up

    def test_again_after_a_pause(self) -> None:
        raw = Raw()
        raw.look_away()
        raw.pass_time(1.1)
        # Where a frame begins has to be found first: it is, by the frame before.
        raw.say(f.ping() + self.WRONG)
        assert raw.codes() == ["GOAWAY(0, PROTOCOL_ERROR)"]

    def test_it_is_not_fooled_by_what_looks_like_a_frame(self) -> None:
        """A read begins inside of DATA whose bytes are frames, to look at: PRIORITY on stream 0."""
        raw = Raw()
        raw.say(f.headers(1, POST))
        raw.look_away()
        raw.pass_time(1.1)
        inside = self.WRONG * 1000
        data = f.data(1, inside)
        cut = 9 + len(self.WRONG) * 300
        raw.say(data[:cut])
        raw.say(data[cut:])
        raw.say(f.data(1, inside))
        (_, _, heard), *_ = raw.begun
        assert len(heard.body) == 2 * len(inside)
        assert not raw.connection.given_up

    def test_who_breaks_a_rule_is_looked_at_for_longer(self) -> None:
        raw = Raw()
        raw.say(f.headers(1, POST) + f.reset(1))
        for _ in range(FRAMES):
            raw.say(f.data(1) * 2)
        assert raw.said().count(f.Frame(f.RST_STREAM, 0, 1, (5).to_bytes(4))) == 2 * FRAMES

    @pytest.mark.parametrize("size", [1, 2, 5, 8, 9, 10, 13])
    def test_a_frame_may_come_in_pieces(self, size: int) -> None:
        raw = Raw()
        data = f.headers(1, POST) + f.data(1, b"body") + f.priority(1, 1) + f.headers(3, GET, end=True)
        for at in range(0, len(data), size):
            raw.say(data[at : at + size])
        assert raw.codes() == ["RST_STREAM(1, PROTOCOL_ERROR)"]
        (_, _, broken), (_, head, _) = raw.begun
        assert bytes(broken.body) == b"body"
        assert broken.failure is Failure.PROTOCOL
        assert head.path == b"/"


class TestStalledStreams:
    PACE = Pace(first=60.0, idle=300.0, write=60.0, min_rate=100)

    def _answer(self, raw: Raw, index: int, size: int, end: bool) -> None:
        stream, _, _ = raw.begun[index]
        raw.runtime.turn.begin()
        stream.send_head(OK, False)
        stream.send_data(bytes(size), end)
        raw.runtime.turn.end()

    def test_answers_that_no_window_takes_are_cut_and_others_go_on(self) -> None:
        raw = Raw(self.PACE)
        raw.say(f.window_update(0, 1 << 30))
        raw.say(gets(1, 3))
        for index, end in ((0, False), (1, True)):
            self._answer(raw, index, 200_000, end)
        raw.runtime.timers.advance(200.0)
        assert raw.codes() == ["RST_STREAM(1, CANCEL)", "RST_STREAM(3, CANCEL)"]
        assert raw.runtime.slow == ["write", "write"]
        assert raw.begun[0][2].failure is Failure.SLOW_REQUEST
        assert [*raw.connection.streams] == [5]

    def test_a_slow_reader_lives(self) -> None:
        raw = Raw(self.PACE)
        raw.say(gets(1, 1))
        self._answer(raw, 0, 200_000, False)
        for _ in range(100):
            raw.runtime.timers.advance(10.0)
            raw.say(f.window_update(1, 1200), f.window_update(0, 1200))
        assert raw.codes() == []
        assert [*raw.connection.streams] == [1]

    def test_a_byte_at_a_time_is_too_slow(self) -> None:
        raw = Raw(self.PACE)
        raw.say(gets(1, 1))
        self._answer(raw, 0, 200_000, False)
        for _ in range(200):
            raw.runtime.timers.advance(1.0)
            raw.say(f.window_update(1, 1), f.window_update(0, 1))
        assert raw.codes() == ["RST_STREAM(1, CANCEL)"]

    def test_a_stream_that_says_nothing_lives(self) -> None:
        raw = Raw(self.PACE)
        raw.say(gets(1, 1))
        self._answer(raw, 0, 100, False)
        raw.runtime.timers.advance(10_000.0)
        assert [*raw.connection.streams] == [1]


def test_a_downstream_library_and_we_agree_after_all_that() -> None:
    # Nothing of it is in the way of an ordinary call.
    down = Downstream()
    for _ in range(2 * FRAMES):
        stream, _ = down.serve(body=b"ping")
        answer(down, stream)
        down.pump()
    assert down.connection.open_streams == 0
    assert not down.connection.given_up


# A frame that ends stream 1, in one piece or in two, and one more on it.
ENDS = {
    "DATA": f.data(1, b"end", end=True),
    "trailers": f.headers(1, [(b"x-checksum", b"1")], end=True),
    "trailers in two frames": f.frame(f.HEADERS, f.END_STREAM, 1, f.block([(b"x-checksum", b"1")])[:4])
    + f.frame(f.CONTINUATION, f.END_HEADERS, 1, f.block([(b"x-checksum", b"1")])[4:]),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_comes_behind_an_end_is_an_error_of_its_stream_wherever_reads_are_cut(name: str) -> None:
    said = f.headers(1, POST) + ENDS[name] + f.data(1, b"") + f.headers(3, GET, end=True)
    for cut in range(1, len(said)):
        # Given a client that says DATA behind the end of its request
        raw = Raw()
        raw.said()
        # When that comes in two reads
        raw.say(said[:cut])
        raw.say(said[cut:])
        # Then the stream is reset (RFC 9113 5.1), and the next one begins
        assert raw.codes() == ["RST_STREAM(1, STREAM_CLOSED)"], cut
        assert len(raw.begun) == 2
