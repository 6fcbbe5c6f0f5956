"""sidecar.wire.h2_server against a real client library."""

from functools import partial
from typing import Any

import ngh2
import pytest

from sidecar.codec.h2 import CONNECTION_WINDOW, STREAM_WINDOW
from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.outcome import Failure
from sidecar.policy.crowd import FEW, LEAST
from sidecar.policy.pace import Pace
from sidecar.wire.h2_stream import HIGH_WATER
from tests.wire.h2_peers import REQUEST, TRAILERS, Downstream

OK = ResponseHead(200, [(b"content-type", b"application/grpc")])
MIB = 1024 * 1024
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 2, 7, 8, 11


def answer(down: Downstream, stream: Any, body: bytes = b"pong") -> None:
    def send() -> None:
        stream.send_head(OK, False)
        stream.send_data(body, False)
        stream.send_trailers(TRAILERS)

    down.in_turn(send)


class TestExchange:
    def test_a_call_and_its_answer_in_order(self) -> None:
        down = Downstream()
        stream, heard = down.serve(body=b"ping")
        _, head, end, _ = down.begun[0]
        assert (head.method, head.path, head.authority, head.scheme) == (
            b"POST",
            b"/pkg.Users/Get",
            b"users.internal:80",
            b"http",
        )
        assert head.headers == [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
        assert head.length is None
        assert not end
        assert heard.log == [("data", 4, True)]
        answer(down, stream)
        events = down.pump()
        kinds = [type(event) for event in events]
        assert kinds == [ngh2.ResponseReceived, ngh2.DataReceived, ngh2.TrailersReceived, ngh2.StreamClosed]
        assert events[0].headers == ((b":status", b"200"), (b"content-type", b"application/grpc"))
        assert events[2].headers == tuple(TRAILERS)
        assert down.connection.open_streams == 0
        assert heard.log == [("data", 4, True)]

    def test_one_write_for_all_that_a_turn_says(self) -> None:
        down = Downstream()
        streams = [down.serve()[0] for _ in range(10)]
        before = down.transport.writes

        def send() -> None:
            for stream in streams:
                stream.send_head(OK, False)
                stream.send_data(b"pong", True)

        down.in_turn(send)
        assert down.transport.writes == before + 1
        down.pump()
        assert len(down.of(ngh2.StreamClosed)) == 10

    def test_a_request_without_a_body_ends_with_its_head(self) -> None:
        down = Downstream()
        down.serve()
        _, head, end, heard = down.begun[0]
        assert end
        assert head.length == 0
        assert heard.log == []

    def test_the_declared_length_is_known(self) -> None:
        down = Downstream()
        down.serve([*REQUEST, (b"content-length", b"4")], b"ping")
        assert down.begun[0][1].length == 4
        assert (b"content-length", b"4") in down.begun[0][1].headers

    @pytest.mark.parametrize(
        "fields",
        [
            [(b"x-large", b"x" * 70_000)],
            [(b"x-%d" % index, b"") for index in range(300)],
            [(b"x-bomb", b"x" * 3900)] * 17,  # one entry of the field table, and references to it
        ],
        ids=["large", "many", "references"],
    )
    def test_trailers_of_a_request_over_the_limits_of_http1(self, fields: list[tuple[bytes, bytes]]) -> None:
        down = Downstream()
        stream_id = down.ask(body=b"ping", end=False)
        other = down.ask(body=b"ping", end=False)
        down.pump()
        down.peer.send_trailers(stream_id, fields)
        down.pump()
        heard = down.begun[0][3]
        assert heard.log == [("data", 4, False), ("reset", Failure.PROTOCOL)]
        assert down.codes() == {stream_id: PROTOCOL_ERROR}
        # Others on its connection go on.
        down.peer.send_data(other, b"pong", end_stream=True)
        down.pump()
        assert down.begun[1][3].body == b"pingpong"

    def test_trailers_of_a_request(self) -> None:
        down = Downstream()
        stream_id = down.ask(body=b"ping", end=False)
        down.peer.send_trailers(stream_id, [(b"x-sum", b"1")])
        down.pump()
        assert down.begun[0][3].log == [("data", 4, False), ("trailers", [(b"x-sum", b"1")])]

    def test_informational_responses_come_before_the_final_one(self) -> None:
        down = Downstream()
        stream, _ = down.serve(body=b"", end=False)

        def send() -> None:
            stream.send_informational(ResponseHead(100, []))
            stream.send_informational(ResponseHead(101, []))
            stream.send_informational(ResponseHead(103, [(b"link", b"</a>")]))
            stream.send_head(OK, True)
            stream.send_informational(ResponseHead(103, []))

        down.in_turn(send)
        down.pump()
        heads = [event.headers[0][1] for event in down.events if hasattr(event, "headers")]
        assert heads == [b"100", b"103", b"200"]

    def test_a_thousand_streams_at_once(self) -> None:
        down = Downstream()
        for _ in range(100):  # until our SETTINGS have come, a client assumes 100
            down.ask(body=b"ping")
        down.pump()
        for _ in range(900):
            down.ask(body=b"ping")
        down.pump()
        assert len(down.begun) == 1000
        assert down.connection.open_streams == 1000

        def send() -> None:
            for stream, _, _, _ in reversed(down.begun):
                stream.send_head(OK, False)
                stream.send_data(b"%d" % stream.id, True)

        down.in_turn(send)
        down.pump()
        assert down.connection.open_streams == 0
        assert all(down.body(stream.id) == b"%d" % stream.id for stream, _, _, _ in down.begun)

    def test_nothing_is_sent_twice_or_after_the_end(self) -> None:
        down = Downstream()
        stream, _ = down.serve()

        def send() -> None:
            stream.send_head(OK, False)
            stream.send_head(ResponseHead(500, []), False)
            stream.send_data(b"a", True)
            stream.send_data(b"b", True)
            stream.send_trailers(TRAILERS)
            stream.reset(Failure.INTERNAL)

        down.in_turn(send)
        down.pump()
        assert [event.headers[0][1] for event in down.of(ngh2.ResponseReceived)] == [b"200"]
        assert down.body(1) == b"a"
        assert down.of(ngh2.TrailersReceived) == []
        assert down.codes() == {}

    def test_connection_specific_fields_do_not_go_out(self) -> None:
        down = Downstream()
        stream, _ = down.serve()
        fields = [(b"connection", b"close"), (b"keep-alive", b"5"), (b"x-a", b"1"), (b"transfer-encoding", b"chunked")]
        down.in_turn(lambda: stream.send_head(ResponseHead(200, fields), True))
        down.pump()
        assert down.of(ngh2.ResponseReceived)[0].headers == ((b":status", b"200"), (b"x-a", b"1"))


class TestFlowControl:
    def test_a_paused_reader_bounds_what_comes(self) -> None:
        down = Downstream()
        body = bytes(range(256)) * (8 * MIB // 256)
        stream, heard = down.serve(body=b"", end=False)
        stream.pause()
        down.peer.send_data(stream.id, body, end_stream=True)
        down.pump()
        # The first window of a stream is 64 KiB until the client has our SETTINGS.
        assert 0 < len(heard.body) <= STREAM_WINDOW
        while not heard.ended:
            before = len(heard.body)
            down.in_turn(stream.resume)
            stream.pause()
            down.pump()
            assert 0 < len(heard.body) - before <= STREAM_WINDOW
        assert heard.body == body
        down.in_turn(stream.resume)
        assert down.connection.h2.local_window_size > CONNECTION_WINDOW // 2

    def test_a_reader_that_keeps_up_gets_all(self) -> None:
        down = Downstream()
        body = bytes(range(256)) * (8 * MIB // 256)
        _, heard = down.serve(body=body)
        assert heard.body == body
        assert heard.ended

    def test_one_stalled_reader_does_not_stop_the_others(self) -> None:
        down = Downstream()
        slow, heard = down.serve(body=b"", end=False)
        slow.pause()
        down.peer.send_data(slow.id, bytes(MIB), end_stream=True)
        _, quick = down.serve(body=bytes(2 * MIB))
        assert len(heard.body) <= STREAM_WINDOW
        assert len(quick.body) == 2 * MIB

    def test_a_response_holds_at_the_high_water_mark_and_goes_on(self) -> None:
        down = Downstream(auto_window_update=False)
        stream, heard = down.serve()
        body = bytes(range(256)) * (8 * MIB // 256)
        chunk = 16 * 1024
        sent = 0

        def send() -> None:
            nonlocal sent
            while sent < len(body):
                piece = body[sent : sent + chunk]
                sent += len(piece)
                if not stream.send_data(piece, sent == len(body)):
                    return

        heard.on_writable_do = send
        down.in_turn(lambda: stream.send_head(OK, False))
        down.in_turn(send)
        received = 0
        rounds = 0
        while received < len(body):
            rounds += 1
            assert down.connection.h2.queued_body_size(1) < HIGH_WATER + chunk
            new = [event for event in down.pump() if type(event) is ngh2.DataReceived]
            assert new, "the response stands still"
            for event in new:
                down.peer.acknowledge_received_data(len(event.data), 1)
                received += len(event.data)
        assert down.body(1) == body
        assert rounds > 10
        assert ("writable",) in heard.log
        assert down.of(ngh2.StreamClosed)[0].error_code == NO_ERROR

    def test_only_those_that_moved_are_told(self) -> None:
        down = Downstream(auto_window_update=False, settings={4: 100_000})
        down.peer.set_local_window_size(16 * MIB)
        first, first_heard = down.serve()
        second, second_heard = down.serve()

        def send() -> None:
            for stream in (first, second):
                stream.send_head(OK, False)
                assert not stream.send_data(bytes(300_000), False)

        down.in_turn(send)
        down.pump()
        assert first_heard.log == second_heard.log == []
        for _ in range(2):
            down.peer.acknowledge_received_data(100_000, second.id)
            down.pump()
        assert first_heard.log == []
        assert second_heard.log == [("writable",)]

    def test_of_many_answers_that_wait_each_holds_less_until_there_are_few(self) -> None:
        down = Downstream(auto_window_update=False, settings={4: 0})
        answers = [down.serve()[0] for _ in range(FEW + 1)]

        def hold(stream: Any, size: int) -> bool:
            stream.send_head(OK, False)
            return bool(stream.send_data(bytes(size), False))

        first, last = answers[0], answers.pop()
        assert down.in_turn(lambda: hold(first, LEAST)) is True
        for stream in answers[1:]:
            assert down.in_turn(partial(hold, stream, HIGH_WATER)) is False
        assert down.connection.high_water == HIGH_WATER
        assert down.in_turn(lambda: first.send_data(bytes(HIGH_WATER), False)) is False
        assert down.connection.high_water == LEAST
        assert down.in_turn(lambda: hold(last, LEAST)) is False
        # Those that are reset wait no more; half of a crowd is none.
        for stream in answers[: FEW // 2 + 2]:
            down.in_turn(partial(stream.reset, Failure.TIMEOUT))
        assert down.connection.high_water == HIGH_WATER

    def test_a_full_socket_holds_every_stream(self) -> None:
        down = Downstream()
        stream, heard = down.serve()
        down.connection.pause_writing()
        before = down.transport.writes

        def send() -> bool:
            stream.send_head(OK, False)
            return bool(stream.send_data(b"a", False))

        assert down.in_turn(send) is False
        assert down.transport.writes == before
        assert heard.log == []
        down.connection.resume_writing()
        assert heard.log == [("writable",)]
        down.in_turn(lambda: stream.send_data(b"b", True))
        down.pump()
        assert down.body(1) == b"ab"

    def test_no_method_calls_the_receiver(self) -> None:
        down = Downstream()
        stream, heard = down.serve(body=bytes(1000), end=False)
        before = list(heard.log)
        down.runtime.turn.begin()
        stream.pause()
        stream.send_head(OK, False)
        for _ in range(64):
            stream.send_data(bytes(64 * 1024), False)
        stream.resume()
        stream.reset(Failure.TIMEOUT)
        assert heard.log == before
        down.runtime.turn.end()
        assert heard.log == before


class TestResets:
    def test_the_client_gives_up(self) -> None:
        down = Downstream()
        stream, heard = down.serve(body=b"ping", end=False)
        down.peer.reset_stream(stream.id, CANCEL)
        down.pump()
        assert heard.log == [("data", 4, False), ("reset", Failure.CANCELLED)]
        # The exchange may not know yet.
        down.in_turn(
            lambda: (
                stream.send_head(OK, False),
                stream.send_data(b"late", False),
                stream.send_trailers(TRAILERS),
                stream.resume(),
                stream.reset(Failure.CANCELLED),
            )
        )
        down.pump()
        assert down.of(ngh2.ResponseReceived) == []
        assert down.serve(body=b"next")[1].ended

    def test_the_client_gives_up_before_we_know(self) -> None:
        down = Downstream()
        stream, heard = down.serve(body=b"ping")
        down.peer.reset_stream(stream.id, CANCEL)
        data = down.peer.data_to_send()
        answer(down, stream)
        down.connection.data_received(data)
        down.pump()
        assert heard.log == [("data", 4, True)]  # both directions had ended
        assert down.connection.open_streams == 0

    def test_the_connection_is_lost(self) -> None:
        down = Downstream()
        _, uploading = down.serve(body=b"ping", end=False)
        stream, waiting = down.serve(body=b"ping")
        down.lose()
        assert uploading.failure is Failure.CANCELLED
        assert waiting.failure is Failure.CANCELLED
        assert down.closed == [down.connection]
        answer(down, stream)
        down.runtime.loop.run()
        assert down.runtime.timers.waiting == {}

    @pytest.mark.parametrize(
        ("failure", "answered", "code"),
        [
            (Failure.OVERLOADED, False, REFUSED_STREAM),
            (Failure.DRAINING, False, REFUSED_STREAM),
            (Failure.OVERLOADED, True, INTERNAL_ERROR),
            (Failure.RESET, True, INTERNAL_ERROR),
            (Failure.CANCELLED, True, CANCEL),
            (Failure.TIMEOUT, True, CANCEL),
            (Failure.PROTOCOL, True, PROTOCOL_ERROR),
        ],
    )
    def test_a_reset_tells_the_client_why(self, failure: Failure, answered: bool, code: int) -> None:
        down = Downstream()
        stream, heard = down.serve(body=b"ping", end=False)
        if answered:
            down.in_turn(lambda: stream.send_head(OK, False))
        down.in_turn(lambda: stream.reset(failure))
        down.pump()
        assert down.codes() == {1: code}
        assert heard.failure is None
        assert down.connection.open_streams == 0

    def test_an_early_answer_arrives_whole_and_stops_the_upload(self) -> None:
        down = Downstream()
        stream, heard = down.serve(body=b"ping", end=False)
        answer(down, stream)
        down.pump()
        assert down.body(1) == b"pong"
        assert len(down.of(ngh2.TrailersReceived)) == 1
        assert down.codes() == {1: NO_ERROR}
        assert heard.log == [("data", 4, False)]
        assert down.connection.open_streams == 0

    def test_an_early_answer_whose_end_goes_with_the_last_byte_of_the_window(self) -> None:
        down = Downstream(auto_window_update=False, settings={4: 30_000})
        stream, _ = down.serve(body=b"ping", end=False)
        answer(down, stream, bytes(30_000))
        down.pump()
        assert len(down.of(ngh2.TrailersReceived)) == 1
        assert down.codes() == {1: NO_ERROR}
        assert down.connection.open_streams == 0

    def test_an_early_answer_waits_for_the_window_before_the_upload_is_stopped(self) -> None:
        # The body has filled the window to the last byte: its end has no room.
        down = Downstream(auto_window_update=False, settings={4: 30_000})
        stream, heard = down.serve(body=b"ping", end=False)
        down.in_turn(lambda: (stream.send_head(OK, False), stream.send_data(bytes(30_000), False)))
        down.pump()
        down.in_turn(lambda: stream.send_trailers(TRAILERS))
        down.pump()
        assert down.of(ngh2.TrailersReceived) == []
        assert down.codes() == {}
        down.peer.send_data(1, b"more")
        down.pump()
        assert heard.log == [("data", 4, False)], "nobody wants the rest"
        down.peer.acknowledge_received_data(30_000, 1)
        down.pump()
        assert len(down.of(ngh2.TrailersReceived)) == 1
        assert down.codes() == {1: NO_ERROR}
        assert down.connection.open_streams == 0

    def test_an_early_answer_whose_request_ends_after_all(self) -> None:
        down = Downstream(auto_window_update=False, settings={4: 30_000})
        stream, _ = down.serve(body=b"ping", end=False)
        answer(down, stream, bytes(40_000))
        down.pump()
        down.peer.end_stream(1)
        down.pump()
        down.peer.acknowledge_received_data(30_000, 1)
        down.pump()
        assert len(down.body(1)) == 40_000
        assert down.codes() == {}
        assert down.connection.open_streams == 0

    def test_a_tunnel_is_half_closed(self) -> None:
        down = Downstream()
        stream, heard = down.serve([(b":method", b"CONNECT"), (b":authority", b"host:443")], b"to", end=False)
        assert down.begun[0][1].path == b""
        down.in_turn(lambda: (stream.send_head(ResponseHead(200, []), False), stream.send_data(b"fro", True)))
        down.pump()
        assert down.codes() == {}
        down.peer.send_data(1, b" and to", end_stream=True)
        down.pump()
        assert heard.body == b"to and to"
        assert heard.ended
        assert down.body(1) == b"fro"
        assert down.connection.open_streams == 0

    def test_a_half_closed_tunnel_is_reset(self) -> None:
        down = Downstream()
        stream, heard = down.serve([(b":method", b"CONNECT"), (b":authority", b"host:443")], b"to", end=False)
        down.in_turn(lambda: (stream.send_head(ResponseHead(200, []), False), stream.send_data(b"fro", True)))
        down.pump()
        down.peer.reset_stream(1, CANCEL)
        down.pump()
        assert heard.failure is Failure.CANCELLED

    def test_a_receiver_that_raises_spares_the_others(self) -> None:
        down = Downstream()
        stream, heard = down.serve(body=b"", end=False)

        def fail(data: bytes, end: bool) -> None:
            raise RuntimeError("bug")

        heard.on_data = fail  # type: ignore[method-assign]
        down.peer.send_data(stream.id, b"boom", end_stream=True)
        down.ask(body=b"ping")
        down.pump()
        assert [str(error) for error in down.runtime.crashes] == ["bug"]
        assert down.codes() == {1: INTERNAL_ERROR}
        assert heard.failure is Failure.INTERNAL
        assert down.begun[1][3].ended


class TestMalformed:
    @pytest.mark.parametrize(
        "change",
        [
            pytest.param([(b"host", b"other.internal")], id="another host"),
            pytest.param([(b"host", b"users.internal:81")], id="another port"),
        ],
    )
    def test_two_authorities(self, change: list[tuple[bytes, bytes]]) -> None:
        down = Downstream()
        down.ask([*REQUEST, *change])
        down.ask()
        down.pump()
        assert down.codes() == {1: PROTOCOL_ERROR}
        assert len(down.begun) == 1, "the connection lives on"
        assert down.runtime.refusals == [400]

    def test_the_same_authority_twice(self) -> None:
        down = Downstream()
        down.serve([*REQUEST, (b"host", b"Users.Internal:80")])
        head = down.begun[0][1]
        assert head.authority == b"users.internal:80"
        assert (b"host", b"Users.Internal:80") not in head.headers

    def test_a_large_head_is_answered_431(self) -> None:
        down = Downstream()
        plain = [pair for pair in REQUEST if pair[0] != b"content-type"]
        stream_id = down.ask([*plain, *((b"x-%d" % n, b"v" * 4000) for n in range(20))])
        down.ask()
        down.pump()
        (answer,) = [event for event in down.of(ngh2.ResponseReceived) if event.stream_id == stream_id]
        assert answer.headers[0] == (b":status", b"431")
        assert (b"x-sidecar-error", b"too_large") in answer.headers
        assert len(down.begun) == 1
        assert down.runtime.refusals == [431]

    def test_a_large_head_of_a_grpc_call_is_answered_by_a_status(self) -> None:
        down = Downstream()
        down.ask([*REQUEST, *((b"x-%d" % n, b"v" * 4000) for n in range(20))])
        data = down.peer.data_to_send()
        for start in range(0, len(data), 5000):
            down.connection.data_received(data[start : start + 5000])
        down.pump()
        answer = down.of(ngh2.ResponseReceived)[0]
        assert answer.headers[0] == (b":status", b"200")
        assert (b"grpc-status", b"8") in answer.headers
        assert down.runtime.refusals == [431]

    def test_a_huge_head_ends_the_connection(self) -> None:
        down = Downstream()
        _, heard = down.serve(body=b"", end=False)
        down.ask([*REQUEST, *((b"x-%d" % n, b"v" * 4000) for n in range(80))])
        down.pump()
        assert down.transport.ended
        assert down.of(ngh2.GoAwayReceived)[-1].error_code == ENHANCE_YOUR_CALM
        assert heard.failure is Failure.CANCELLED

    def test_bytes_that_are_no_http2(self) -> None:
        down = Downstream()
        fresh = type(down.connection)(down.runtime, down._begin, down.closed.append)
        transport = type(down.transport)()
        fresh.connection_made(transport)
        fresh.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert transport.ended
        assert transport.written[-17:-8] == b"\x00\x00\x08\x07\x00\x00\x00\x00\x00"

    def test_a_protocol_error_is_answered_by_goaway_and_the_end(self) -> None:
        down = Downstream()
        stream, heard = down.serve(body=b"", end=False)
        # DATA on stream 0 (RFC 9113 6.1).
        down.connection.data_received(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")
        assert down.transport.ended
        assert heard.failure is Failure.CANCELLED
        down.pump()
        assert down.of(ngh2.GoAwayReceived)[0].error_code == PROTOCOL_ERROR
        answer(down, stream)
        # A client that does not read must not hold the socket.
        down.runtime.timers.advance(3)
        assert down.transport.aborted
        down.lose()
        assert down.closed == [down.connection]


class TestDrain:
    def test_requests_on_the_way_are_served_then_the_connection_ends(self) -> None:
        down = Downstream()
        stream, _ = down.serve(body=b"ping")
        crossing = down.ask(body=b"crossing")  # sent before the client has read the notice
        data = down.peer.data_to_send()
        down.in_turn(down.connection.drain)
        down.connection.data_received(data)
        down.pump()
        assert [event.last_stream_id for event in down.of(ngh2.GoAwayReceived)] == [2**31 - 1, crossing]
        assert len(down.begun) == 2
        answer(down, stream)
        down.pump()
        assert not down.transport.closing
        answer(down, down.begun[1][0])
        down.pump()
        assert len(down.of(ngh2.TrailersReceived)) == 2
        assert down.transport.closing

    def test_a_client_that_does_not_answer_the_ping(self) -> None:
        down = Downstream()
        stream, _ = down.serve(body=b"ping")
        down.in_turn(down.connection.drain)
        first = down.transport.take()
        down.runtime.timers.advance(1)
        down.peer.receive_data(first)
        down.peer.data_to_send()
        down.pump()
        assert [event.last_stream_id for event in down.of(ngh2.GoAwayReceived)] == [2**31 - 1, 1]
        answer(down, stream)
        down.pump()
        assert down.transport.closing

    def test_an_idle_connection_ends_at_once(self) -> None:
        down = Downstream()
        down.in_turn(down.connection.drain)
        down.in_turn(down.connection.drain)
        down.pump()
        # With no stream open, this client leaves at the notice.
        assert [event.last_stream_id for event in down.of(ngh2.GoAwayReceived)] == [2**31 - 1]
        assert len(down.of(ngh2.ConnectionClosed)) == 1
        down.lose()
        assert down.closed == [down.connection]

    def test_who_has_asked_nothing_yet_is_told_behind_its_first_request(self) -> None:
        # Given a client that has just connected
        down = Downstream()
        down.in_turn(down.connection.drain)
        down.runtime.timers.advance(0.9)
        down.pump()
        assert down.of(ngh2.GoAwayReceived) == [], "it would come again at once"
        # When it asks, then it hears soon that it has to go: the pause may be a short one
        stream, _ = down.serve(body=b"ping")
        down.runtime.timers.advance(0.06)
        down.pump()
        assert down.of(ngh2.GoAwayReceived) != []
        answer(down, stream)

    def test_who_never_asks_is_told_after_a_second(self) -> None:
        down = Downstream()
        down.in_turn(down.connection.drain)
        down.runtime.timers.advance(1.01)
        down.pump()
        assert down.of(ngh2.GoAwayReceived) != []

    def test_the_idle_timeout_drains(self) -> None:
        down = Downstream()
        down.connection._pace = Pace()
        down.connection._watch_idle(60.0)
        down.runtime.timers.advance(50)
        stream, _ = down.serve(body=b"ping")
        down.runtime.timers.advance(1000)
        assert down.of(ngh2.GoAwayReceived) == [], "a stream is open"
        answer(down, stream)
        down.pump()
        down.runtime.timers.advance(299)
        down.pump()
        assert down.of(ngh2.GoAwayReceived) == []
        down.runtime.timers.advance(77)
        down.pump()
        assert down.transport.closing

    def test_a_client_that_does_not_read_is_cut(self) -> None:
        down = Downstream()
        down.connection._pace = Pace()
        down.connection._watch_idle(60.0)
        down.serve(body=b"ping")
        down.transport.unsent = 500_000
        down.connection.pause_writing()
        down.runtime.timers.advance(60)
        assert not down.transport.aborted
        down.runtime.timers.advance(150)
        assert down.transport.aborted
        assert down.runtime.slow == ["write"]

    @pytest.mark.parametrize("reads", ["at the least rate", "all of it, now and then"])
    def test_a_client_that_reads_slowly_lives(self, reads: str) -> None:
        down = Downstream()
        down.connection._pace = Pace()
        down.connection._watch_idle(60.0)
        down.serve(body=b"ping")
        down.transport.unsent = 500_000
        down.connection.pause_writing()
        for second in range(600):
            down.runtime.timers.advance(1)
            if reads == "at the least rate":
                down.transport.unsent -= Pace().min_rate
            elif second % 50 == 49:
                down.connection.resume_writing()
                down.connection.pause_writing()
        assert down.runtime.slow == []
        assert not down.transport.aborted

    def test_a_client_that_was_idle_for_two_checks_may_be_closed_to_make_room(self) -> None:
        down = Downstream()
        down.connection._pace = Pace()
        down.connection._watch_idle(300.0)
        stream, _ = down.serve(body=b"ping")
        answer(down, stream)
        down.pump()
        down.runtime.timers.advance(80)
        assert down.connection.idle_since is None
        down.runtime.timers.advance(160)
        since = down.connection.idle_since
        assert since is not None
        assert 70 <= down.runtime.clock() - since <= 160

    def test_a_client_that_never_asks_is_drained(self) -> None:
        down = Downstream()
        down.connection._pace = Pace()
        down.connection._watch_idle(60.0)
        down.runtime.timers.advance(76)
        down.pump()
        down.runtime.timers.advance(1)  # it has no stream and leaves, or does not answer the PING
        down.pump()
        assert down.transport.closing


class TestAccounting:
    def test_ten_thousand_calls_with_cancels_leave_the_window_whole(self) -> None:
        down = Downstream()
        body = bytes(700)
        for number in range(10_000):
            kind = number % 5
            stream_id = down.ask(body=body, end=kind != 1)
            if number % 10 == 9 or kind in (1, 2):
                down.pump()
                stream, _, _, _ = down.begun[-1]
                if kind == 1:
                    stream.pause()
                    down.peer.send_data(stream_id, body)
                    down.pump()
                    down.peer.reset_stream(stream_id, CANCEL)
                elif kind == 2:
                    stream.pause()
                    down.in_turn(lambda stream=stream: stream.reset(Failure.CANCELLED))  # type: ignore[misc]
                down.pump()
            for stream, _, _, _ in down.begun:
                if not stream.closed and not stream.local_ended:
                    down.in_turn(lambda stream=stream: answer_in_turn(stream))  # type: ignore[misc]
            down.begun.clear()
            down.events.clear()
        down.pump()
        assert down.connection.open_streams == 0
        # What was acknowledged and not yet announced is less than half a window.
        assert down.connection.h2.local_window_size > CONNECTION_WINDOW // 2
        assert not down.connection.draining
        # Nothing is outstanding: one byte more cannot be acknowledged.
        with pytest.raises(ValueError, match="unacknowledged"):
            down.connection.h2.acknowledge_received_data(1, 19_999)

    def test_frames_cut_in_the_middle_end_the_connection_before_the_window_is_gone(self) -> None:
        down = Downstream()
        rounds = 0
        while not down.connection.draining:
            rounds += 1
            assert rounds < 2000
            stream, _ = down.serve(body=b"", end=False)
            down.peer.send_data(stream.id, bytes(16_000))
            data = down.peer.data_to_send()
            down.connection.data_received(data[:15_000])
            down.in_turn(lambda stream=stream: stream.reset(Failure.OVERLOADED))  # type: ignore[misc]
            down.connection.data_received(data[15_000:])
            down.begun.clear()
            down.events.clear()
        assert rounds > 100
        down.pump()
        down.runtime.timers.advance(1)
        down.pump()
        assert down.transport.closing


def answer_in_turn(stream: Any) -> None:
    stream.send_head(OK, False)
    stream.send_data(b"pong", True)


def test_the_head_of_a_first_request_may_come_with_the_preface() -> None:
    down = Downstream()
    client = ngh2.Connection(ngh2.Role.CLIENT)
    client.initiate_connection()
    client.send_request(REQUEST, end_stream=True)
    heads: list[RequestHead] = []
    fresh = type(down.connection)(down.runtime, lambda stream, head, end: heads.append(head))
    transport = type(down.transport)()
    down.runtime.turn.begin()  # a listener that sniffs hands its bytes on inside its turn
    fresh.connection_made(transport)
    fresh.data_received(client.data_to_send())
    down.runtime.turn.end()
    assert heads[0].path == b"/pkg.Users/Get"
    assert transport.writes == 1


@pytest.mark.parametrize("size", [1000, 100_000])
def test_a_large_head_for_which_there_is_no_memory_ends_the_connection_unless_others_are_on_it(size: int) -> None:
    large = [*REQUEST, *((b"x-%d" % number, b"x" * 1000) for number in range(20))]
    for others, aborted in ((1, False), (0, True)):
        down = Downstream()
        for _ in range(others):
            down.serve()
        down.runtime.growth.short = True
        down.ask(large)
        sent = down.peer.data_to_send()
        for at in range(0, len(sent), size):
            down.connection.data_received(sent[at : at + size])
        assert down.transport.aborted == aborted
        assert len(down.begun) == (0 if aborted and size > len(sent) else 1 + others)
        assert down.runtime.places.refused["pressure"] == int(aborted)
