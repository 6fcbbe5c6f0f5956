"""sidecar.wire.h2_client against a real server library."""

from typing import Any

import ngh2
import pytest

from sidecar.codec.h2 import ASSUMED_STREAMS, CONNECTION_WINDOW, STREAM_WINDOW
from sidecar.model.head import ResponseHead
from sidecar.model.outcome import Failure
from sidecar.wire.h2_stream import HIGH_WATER
from tests.wire.h2_peers import RESPONSE, TRAILERS, Heard, Upstream, request

MIB = 1024 * 1024
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 1, 2, 7, 8


class TestExchange:
    def test_a_call_and_its_answer_in_order(self) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"ping")
        events = up.pump()
        assert [type(event) for event in events] == [ngh2.RequestReceived, ngh2.DataReceived]
        assert events[0].headers == (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/pkg.Users/Get"),
            (b":authority", b"users.internal:80"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )
        assert events[1].end_stream
        up.answer(1)
        up.pump()
        assert heard.log == [("head", 200, False), ("data", 4, False), ("trailers", TRAILERS)]
        assert heard.head.headers == [(b"content-type", b"application/grpc")]
        assert heard.head.length is None
        assert up.connection.open_streams == 0

    def test_an_answer_of_trailers_alone(self) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"ping")
        up.pump()
        up.peer.send_response(1, [*RESPONSE, (b"grpc-status", b"14")], end_stream=True)
        up.pump()
        assert heard.log == [("head", 200, True)]
        assert (b"grpc-status", b"14") in heard.head.headers
        assert heard.head.length is None  # no field says it

    def test_informational_responses(self) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"", end=False)
        up.pump()
        up.peer.send_informational_response(1, [(b":status", b"103"), (b"link", b"</a>")])
        up.answer(1)
        up.pump()
        assert heard.log[:2] == [("informational", 103), ("head", 200, False)]

    @pytest.mark.parametrize(
        ("method", "status"), [(b"HEAD", b"200"), (b"GET", b"304"), (b"GET", b"204"), (b"GET", b"404")]
    )
    def test_answers_without_a_body(self, method: bytes, status: bytes) -> None:
        up = Upstream()
        _, heard = up.ask(request(method=method, length=0))
        up.pump()
        up.peer.send_response(1, [(b":status", status)], end_stream=True)
        up.pump()
        assert heard.log == [("head", int(status), True)]
        assert heard.head.length is None

    def test_the_length_that_an_answer_to_head_declares(self) -> None:
        up = Upstream()
        _, heard = up.ask(request(method=b"HEAD", length=0))
        up.pump()
        up.peer.send_response(1, [(b":status", b"200"), (b"content-length", b"1234")], end_stream=True)
        up.pump()
        assert heard.head.length == 1234
        assert heard.ended

    def test_an_answer_that_comes_before_the_request_has_ended(self) -> None:
        up = Upstream()
        stream, heard = up.ask(body=b"ping", end=False)
        up.pump()
        up.answer(1)
        up.pump()
        up.peer.reset_stream(1, NO_ERROR)
        up.pump()
        assert heard.body == b"pong"
        assert heard.log[-1] == ("trailers", TRAILERS)
        assert up.in_turn(lambda: stream.send_data(b"late", True)) is True
        up.in_turn(lambda: stream.reset(Failure.CANCELLED))
        up.pump()
        assert up.connection.open_streams == 0

    def test_trailers_of_a_request(self) -> None:
        up = Upstream()
        stream, _ = up.ask(body=b"ping", end=False)
        up.in_turn(lambda: stream.send_trailers([(b"x-sum", b"1"), (b"connection", b"close")]))
        up.pump()
        assert up.of(ngh2.TrailersReceived)[0].headers == ((b"x-sum", b"1"),)

    def test_empty_trailers_end_a_request(self) -> None:
        up = Upstream()
        stream, _ = up.ask(body=b"ping", end=False)
        up.in_turn(lambda: stream.send_trailers([]))
        up.pump()
        assert up.of(ngh2.DataReceived)[-1].end_stream

    def test_requests_of_one_turn_are_one_write(self) -> None:
        up = Upstream()
        before = up.transport.writes

        def start() -> None:
            for _ in range(10):
                up.ask(body=b"ping")

        up.in_turn(start)
        assert up.transport.writes == before + 1
        up.pump()
        assert len(up.of(ngh2.RequestReceived)) == 10

    def test_an_open_outside_a_turn_is_flushed_soon(self) -> None:
        up = Upstream()
        heard = Heard()
        up.connection.open(heard).send_head(request(), True)
        assert up.transport.written == b""
        up.pump()
        assert len(up.of(ngh2.RequestReceived)) == 1


class TestFlowControl:
    def test_a_paused_reader_bounds_what_comes(self) -> None:
        up = Upstream()
        stream, heard = up.ask(body=b"ping")
        up.pump()
        stream.pause()
        body = bytes(range(256)) * (8 * MIB // 256)
        up.answer(1, body)
        up.pump()
        assert 0 < len(heard.body) <= STREAM_WINDOW
        while not heard.ended:
            before = len(heard.body)
            up.in_turn(stream.resume)
            stream.pause()
            up.pump()
            assert len(heard.body) - before <= STREAM_WINDOW
        assert heard.body == body
        assert up.connection.h2.local_window_size > CONNECTION_WINDOW // 2

    def test_an_upload_holds_at_the_high_water_mark_and_goes_on(self) -> None:
        up = Upstream()
        body = bytes(range(256)) * (8 * MIB // 256)
        sent = 0
        stream, heard = up.ask(body=b"", end=False)

        def send() -> None:
            nonlocal sent
            while sent < len(body):
                piece = body[sent : sent + 16 * 1024]
                sent += len(piece)
                if not stream.send_data(piece, sent == len(body)):
                    return

        heard.on_writable_do = send
        up.in_turn(send)
        assert up.connection.h2.queued_body_size(1) < HIGH_WATER + 16 * 1024
        assert sent < MIB
        up.pump()
        assert up.body(1) == body
        assert ("writable",) in heard.log

    def test_a_reset_returns_the_credit_of_a_paused_reader(self) -> None:
        up = Upstream()
        for _ in range(3 * CONNECTION_WINDOW // STREAM_WINDOW):
            stream, heard = up.ask(body=b"ping")
            up.pump()
            stream.pause()
            up.answer(stream.id, bytes(STREAM_WINDOW))
            up.pump()
            assert heard.body
            up.in_turn(lambda stream=stream: stream.reset(Failure.CANCELLED))  # type: ignore[misc]
            up.pump()
            up.events.clear()
        assert up.connection.h2.local_window_size > CONNECTION_WINDOW // 2
        assert not up.connection.draining


class TestResets:
    @pytest.mark.parametrize(
        ("code", "failure"),
        [
            (REFUSED_STREAM, Failure.REFUSED),
            (CANCEL, Failure.RESET),
            (INTERNAL_ERROR, Failure.RESET),
            (NO_ERROR, Failure.RESET),
        ],
    )
    def test_the_server_gives_up(self, code: int, failure: Failure) -> None:
        up = Upstream()
        stream, heard = up.ask(body=b"ping")
        up.pump()
        up.peer.reset_stream(1, code)
        up.pump()
        assert heard.log == [("reset", failure)]
        assert up.connection.open_streams == 0
        up.in_turn(lambda: (stream.send_data(b"late", True), stream.resume(), stream.reset(Failure.CANCELLED)))
        assert up.connection.open_streams == 0

    def test_refused_after_an_answer_is_a_reset(self) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"ping")
        up.pump()
        up.peer.send_response(1, RESPONSE)
        up.pump()
        up.peer.reset_stream(1, REFUSED_STREAM)
        up.pump()
        assert heard.log == [("head", 200, False), ("reset", Failure.RESET)]

    def test_we_give_up(self) -> None:
        up = Upstream()
        stream, heard = up.ask(body=b"ping")
        up.pump()
        up.answer(1, bytes(1000))
        up.in_turn(lambda: stream.reset(Failure.CANCELLED))
        up.pump()
        assert up.codes() == {1: CANCEL}
        assert heard.log == []
        assert up.connection.open_streams == 0
        assert up.ask(body=b"next")[0].id == 3

    def test_giving_up_when_all_was_said_says_nothing(self) -> None:
        up = Upstream()
        stream, heard = up.ask(body=b"ping")
        up.pump()
        told = heard.on_trailers

        def on_trailers(trailers: Any) -> None:
            told(trailers)
            stream.reset(Failure.CANCELLED)

        heard.on_trailers = on_trailers  # type: ignore[method-assign]
        up.answer(1)
        up.pump()
        assert heard.ended
        assert up.codes() == {}
        assert up.connection.open_streams == 0

    def test_an_answer_ends_an_upload_that_still_waits_for_the_window(self) -> None:
        up = Upstream()
        stream, heard = up.ask(body=bytes(200_000))
        up.runtime.loop.run()
        assert up.connection.h2.queued_body_size(1) > 0
        up.peer.receive_data(up.transport.take())
        up.answer(1)
        up.connection.data_received(up.peer.data_to_send())
        assert heard.ended
        up.in_turn(lambda: stream.reset(Failure.CANCELLED))
        assert up.connection.open_streams == 0
        up.pump()
        assert up.codes() == {1: CANCEL}

    def test_we_give_up_before_anything_was_sent(self) -> None:
        up = Upstream()
        heard = Heard()
        stream = up.connection.open(heard)
        up.in_turn(lambda: stream.reset(Failure.CANCELLED))
        up.in_turn(lambda: stream.send_head(request(), True))
        up.pump()
        assert up.of(ngh2.RequestReceived) == []
        assert up.connection.open_streams == 0
        up.lose()
        assert heard.log == []

    def test_a_malformed_answer(self) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"ping")
        up.pump()
        up.peer.send_response(1, [*RESPONSE, (b"connection", b"close")])
        up.peer.send_data(1, b"pong", end_stream=True)
        up.pump()
        assert heard.log == [("reset", Failure.PROTOCOL)]
        assert up.connection.open_streams == 0
        assert not up.connection.draining

    @pytest.mark.parametrize(
        "fields",
        [
            [(b"x-large", b"x" * 70_000)],
            [(b"x-%d" % index, b"") for index in range(300)],
            # One entry of the field table, of which each other costs a byte (RFC 7541 6.1).
            [(b"x-bomb", b"x" * 3900)] * 17,
        ],
        ids=["large", "many", "references"],
    )
    @pytest.mark.parametrize("place", ["head", "trailers", "1xx"])
    def test_an_answer_over_the_limits_of_http1(self, fields: list[tuple[bytes, bytes]], place: str) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"ping")
        _, other = up.ask(body=b"ping")
        up.pump()
        up.peer.send_response(3, RESPONSE)
        if place == "head":
            up.peer.send_response(1, [*RESPONSE, *fields])
        elif place == "1xx":
            up.peer.send_informational_response(1, [(b":status", b"103"), *fields])
        else:
            up.answer(1, trailers=fields)
        events = up.pump()
        assert heard.failure is Failure.PROTOCOL
        assert heard.log[-1] == ("reset", Failure.PROTOCOL)
        if place != "trailers":  # behind which there is no stream any more
            assert [event.error_code for event in events if isinstance(event, ngh2.StreamReset)] == [PROTOCOL_ERROR]
        # Others on its connection go on.
        up.peer.send_data(3, b"pong", end_stream=True)
        up.pump()
        assert other.body == b"pong"
        assert other.failure is None
        assert up.connection.open_streams == 0

    @pytest.mark.parametrize("count", [3, 200])
    def test_an_answer_within_the_limits(self, count: int) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"ping")
        up.pump()
        fields = [(b"x-%d" % index, b"x" * (40_000 // count)) for index in range(count)]
        up.peer.send_response(1, [*RESPONSE, *fields], end_stream=True)
        up.pump()
        assert heard.head.headers == [*RESPONSE[1:], *fields]

    def test_a_status_that_is_none(self) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"ping")
        up.pump()
        up.peer.send_response(1, [(b":status", b"099")], end_stream=True)
        up.pump()
        assert heard.log == [("reset", Failure.PROTOCOL)]
        assert up.connection.open_streams == 0

    def test_a_receiver_that_raises_spares_the_others(self) -> None:
        up = Upstream()
        _, broken = up.ask(body=b"ping")
        _, heard = up.ask(body=b"ping")

        def fail(head: ResponseHead, end: bool) -> None:
            raise RuntimeError("bug")

        broken.on_head = fail  # type: ignore[method-assign]
        up.pump()
        up.answer(1)
        up.answer(3)
        up.pump()
        assert [str(error) for error in up.runtime.crashes] == ["bug"]
        assert broken.failure is Failure.INTERNAL
        assert heard.ended
        assert up.connection.open_streams == 0


class TestLoss:
    def test_before_the_flush_nothing_was_sent(self) -> None:
        up = Upstream()
        opened = Heard()
        stream = up.connection.open(opened)
        assert stream is not None
        up.runtime.turn.begin()
        _, heard = up.ask(body=b"ping")
        up.connection.connection_lost(None)
        up.runtime.turn.end()
        assert heard.log == [("reset", Failure.UNSENT)]
        assert up.told == ["closed"]
        # And who has yet to say his head is told when he does
        up.in_turn(lambda: stream.send_head(request(), True))
        assert opened.log == [("reset", Failure.UNSENT)]

    def test_after_the_flush_it_may_have_been_processed(self) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"ping")
        _, answered = up.ask(body=b"ping")
        up.pump()
        up.answer(3)
        up.pump()
        up.lose()
        assert heard.log == [("reset", Failure.RESET)]
        assert answered.log[-1] == ("trailers", TRAILERS)

    def test_what_a_full_socket_kept_back_was_not_sent(self) -> None:
        up = Upstream()
        up.connection.pause_writing()
        _, heard = up.ask(body=b"ping")
        up.lose()
        assert heard.log == [("reset", Failure.UNSENT)]

    def test_a_write_that_filled_the_socket_was_sent(self) -> None:
        up = Upstream()
        write = up.transport.write

        def fill(data: bytes) -> None:
            write(data)
            up.connection.pause_writing()

        up.transport.write = fill  # type: ignore[method-assign]
        _, heard = up.ask(body=bytes(200_000), end=False)
        up.lose()
        assert heard.log == [("reset", Failure.RESET)]

    def test_nothing_opens_on_a_lost_connection(self) -> None:
        up = Upstream()
        stream, heard = up.ask(body=b"ping")
        up.pump()
        up.lose()
        assert up.connection.open(Heard()) is None
        assert up.connection.free_streams == 0
        assert not up.connection.usable
        up.in_turn(lambda: (stream.send_data(b"late", True), stream.reset(Failure.CANCELLED)))
        assert heard.log == [("reset", Failure.RESET)]
        assert up.runtime.timers.waiting == {}

    def test_the_server_breaks_the_protocol(self) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"ping")
        up.pump()
        up.connection.data_received(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")
        assert heard.log == [("reset", Failure.PROTOCOL)]
        assert up.transport.ended
        up.pump()
        assert up.of(ngh2.GoAwayReceived)[0].error_code == PROTOCOL_ERROR
        up.lose()
        assert up.told == ["draining", "closed"]

    def test_the_server_speaks_another_protocol(self) -> None:
        up = Upstream(pump=False)
        _, heard = up.ask(body=b"ping")
        up.runtime.loop.run()
        up.connection.data_received(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        assert heard.log == [("reset", Failure.PROTOCOL)]
        assert up.transport.ended


class TestGoaway:
    def test_streams_above_the_last_one_were_not_processed(self) -> None:
        up = Upstream()
        _, first = up.ask(body=b"ping")
        _, second = up.ask(body=b"ping")
        up.pump()
        up.peer.send_goaway(0, last_stream_id=1)
        up.pump()
        assert second.log == [("reset", Failure.REFUSED)]
        assert first.log == []
        assert up.told == ["draining"]
        assert not up.connection.usable
        assert up.connection.open(Heard()) is None
        up.answer(1)
        up.pump()
        assert first.log[-1] == ("trailers", TRAILERS)
        assert up.transport.closing

    def test_a_notice_takes_no_new_streams_and_ends_none(self) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"ping")
        up.pump()
        up.peer.send_shutdown_notice()
        up.pump()
        assert up.told == ["draining"]
        assert heard.log == []
        up.peer.send_goaway(0)
        up.answer(1)
        up.pump()
        assert heard.log[-1] == ("trailers", TRAILERS)
        assert up.told == ["draining"]
        assert up.transport.closing

    def test_a_stream_that_was_opened_and_is_started_too_late(self) -> None:
        up = Upstream()
        up.ask(body=b"ping")
        heard = Heard()
        stream = up.connection.open(heard)
        up.peer.send_shutdown_notice()
        up.pump()
        assert heard.log == []
        up.runtime.turn.begin()
        stream.send_head(request(), False)
        assert stream.send_data(b"ping", True) is True
        assert heard.log == [], "not before the method has returned"
        up.runtime.turn.end()
        assert heard.log == [("reset", Failure.UNSENT)]
        assert up.connection.open_streams == 1
        up.answer(1)
        up.pump()
        assert up.transport.closing

    def test_a_head_that_was_queued_when_it_came_was_not_sent(self) -> None:
        up = Upstream()
        up.ask(body=b"ping")
        up.pump()
        heard = Heard()
        stream = up.connection.open(heard)
        up.peer.send_goaway(0)
        # Read in the turn in which the head was queued, before that is written.
        up.runtime.turn.begin()
        stream.send_head(request(), False)
        up.connection.data_received(bytes(up.peer.data_to_send()))
        up.runtime.turn.end()
        assert heard.log == [("reset", Failure.UNSENT)]
        assert up.connection.open_streams == 1

    def test_a_stream_that_was_opened_when_an_idle_connection_ends(self) -> None:
        up = Upstream()
        heard = Heard()
        stream = up.connection.open(heard)
        assert stream is not None
        up.peer.send_goaway(0)
        up.pump()
        up.in_turn(lambda: stream.send_head(request(), True))
        assert heard.log == [("reset", Failure.UNSENT)]
        assert up.transport.closing

    def test_we_drain(self) -> None:
        up = Upstream()
        _, heard = up.ask(body=b"ping")
        up.pump()
        up.in_turn(up.connection.drain)
        assert up.connection.open(Heard()) is None
        assert not up.transport.closing
        up.answer(1)
        up.pump()
        assert heard.log[-1] == ("trailers", TRAILERS)
        assert up.of(ngh2.GoAwayReceived)[0].error_code == NO_ERROR
        assert up.transport.closing
        up.lose()
        assert up.told == ["draining", "closed"]

    def test_we_drain_while_idle(self) -> None:
        up = Upstream()
        up.in_turn(up.connection.drain)
        assert up.transport.closing


class TestLimits:
    def test_the_limit_of_the_server(self) -> None:
        up = Upstream({3: 2})
        assert up.connection.free_streams == 2
        first, _ = up.ask(body=b"ping")
        up.ask(body=b"ping")
        assert up.connection.free_streams == 0
        assert up.connection.open(Heard()) is None
        assert up.connection.usable
        up.pump()
        assert up.told == []
        up.answer(1)
        up.pump()
        assert up.told == ["available"]
        assert up.connection.free_streams == 1
        third, _ = up.ask(body=b"ping")
        up.runtime.turn.begin()
        third.reset(Failure.CANCELLED)
        assert up.told == ["available"], "not from within a method of a stream"
        up.runtime.turn.end()
        assert up.told == ["available", "available"]
        assert first.closed

    def test_before_the_first_settings(self) -> None:
        up = Upstream(pump=False)
        assert up.connection.free_streams == ASSUMED_STREAMS
        up.pump()
        assert up.connection.free_streams == 1000
        assert up.told == ["available"]

    def test_a_server_without_a_limit(self) -> None:
        up = Upstream({})
        assert up.connection.free_streams > 1_000_000

    def test_a_limit_that_falls_and_rises(self) -> None:
        up = Upstream({3: 3})
        for _ in range(3):
            up.ask(body=b"ping")
        up.pump()
        up.told.clear()
        up.peer.update_settings({3: 1})
        up.pump()
        assert up.connection.free_streams == 0
        up.answer(1)
        up.pump()
        assert up.connection.free_streams == 0
        assert up.told == []
        up.peer.update_settings({3: 10})
        up.pump()
        assert up.connection.free_streams == 8
        assert up.told == ["available"]

    def test_a_thousand_streams_at_once(self) -> None:
        up = Upstream()
        asked: list[tuple[Any, Heard]] = []
        up.in_turn(lambda: asked.extend(up.ask(body=b"ping") for _ in range(1000)))
        assert up.connection.free_streams == 0
        up.pump()
        for stream, _ in reversed(asked):
            up.answer(stream.id, b"%d" % stream.id)
        up.pump()
        assert all(heard.body == b"%d" % stream.id and heard.ended for stream, heard in asked)
        assert up.connection.open_streams == 0
        assert up.connection.free_streams == 1000


class TestKeepalive:
    def test_a_dead_connection_is_cut(self) -> None:
        up = Upstream(ping_interval=10.0)
        up.ask(body=b"ping")
        up.pump()
        up.runtime.timers.advance(10)
        assert not up.transport.aborted
        up.runtime.timers.advance(10)
        assert up.transport.aborted

    def test_an_answered_ping_is_a_sign_of_life(self) -> None:
        up = Upstream(ping_interval=10.0)
        up.ask(body=b"ping")
        for _ in range(5):
            up.pump()
            up.runtime.timers.advance(10)
        assert not up.transport.aborted
        assert len(up.of(ngh2.PingReceived)) == 4

    def test_no_ping_without_a_stream(self) -> None:
        up = Upstream(ping_interval=10.0)
        for _ in range(5):
            up.runtime.timers.advance(10)
            up.pump()
        assert up.of(ngh2.PingReceived) == []
        up.lose()
        assert up.runtime.timers.waiting == {}


def test_ten_thousand_calls_with_cancels_leave_nothing_behind() -> None:
    up = Upstream()
    body = bytes(700)
    for number in range(10_000):
        stream, _ = up.ask(body=b"ping")
        if number % 10 == 9:
            up.pump()
            stream.pause()
        up.answer(stream.id, body) if number % 10 == 9 else None
        if number % 10 == 9:
            for event in up.of(ngh2.RequestReceived):
                if event.stream_id != stream.id:
                    up.answer(event.stream_id, body)
            up.pump()
            if number % 20 == 19:
                up.in_turn(lambda stream=stream: stream.reset(Failure.CANCELLED))  # type: ignore[misc]
                up.pump()
            else:
                up.in_turn(stream.resume)
            up.events.clear()
    assert up.connection.open_streams == 0
    assert up.connection.streams == {}
    assert up.connection.h2.local_window_size > CONNECTION_WINDOW // 2
    with pytest.raises(ValueError, match="unacknowledged"):
        up.connection.h2.acknowledge_received_data(1, 19_999)
