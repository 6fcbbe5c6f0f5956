"""What we rely on in ngh2 (libnghttp2), one test per behaviour. It is young: an
upgrade that changes one of these has to be seen here, not on the wire."""

from typing import Any

import h2.config
import h2.connection
import ngh2
import pytest

from sidecar.codec.h2 import abuse_reason, opened_too_many
from tests.security.http2 import frames

REQUEST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"host")]
GET = [(b":method", b"GET"), *REQUEST[1:]]
RESPONSE = [(b":status", b"200")]
_AS_GIVEN: dict[str, Any] = {"normalize_outbound_headers": False, "header_encoding": None}


class Pair:
    """A client and a server that are connected."""

    def __init__(self, client: dict[str, Any] | None = None, server: dict[str, Any] | None = None) -> None:
        defaults: dict[str, Any] = {"auto_window_update": False}
        self.client = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(**(defaults | (client or {}))))
        self.server = ngh2.Connection(ngh2.Role.SERVER, ngh2.Configuration(**(defaults | (server or {}))))
        self.client.initiate_connection()
        self.server.initiate_connection({3: 1000})
        self.pump()

    def pump(self) -> tuple[list[Any], list[Any]]:
        """Exchange bytes until both are silent; the client's and the server's events."""
        told: tuple[list[Any], list[Any]] = ([], [])
        while True:
            up, down = self.client.data_to_send(), self.server.data_to_send()
            if up:
                self.server.receive_data(up)
            if down:
                self.client.receive_data(down)
            told[0].extend(self.client.events())
            told[1].extend(self.server.events())
            if not up and not down:
                return told


def kinds(events: list[Any]) -> list[type]:
    return [type(event) for event in events]


class TestEvents:
    def test_data_is_told_frame_by_frame_and_only_when_it_is_complete(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.pump()
        pair.client.send_data(stream, b"abcd")
        data = pair.client.data_to_send()
        pair.server.receive_data(data[:-1])
        assert pair.server.events() == []
        pair.server.receive_data(data[-1:])
        event: Any
        (event,) = pair.server.events()
        assert (event.data, event.end_stream) == (b"abcd", False)
        assert type(event.data) is bytes

    def test_events_are_drained(self) -> None:
        pair = Pair()
        pair.client.send_request(REQUEST, end_stream=True)
        pair.server.receive_data(pair.client.data_to_send())
        assert len(pair.server.events()) == 1
        assert pair.server.events() == []

    def test_writing_an_end_closes_the_stream_as_an_event(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST, end_stream=True)
        pair.pump()
        pair.server.send_response(stream, RESPONSE, end_stream=True)
        assert pair.server.events() == []
        pair.server.data_to_send()
        event: Any
        (event,) = pair.server.events()
        assert (type(event), event.stream_id, event.error_code) == (ngh2.StreamClosed, stream, 0)

    def test_a_reset_is_told_and_then_the_close(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.pump()
        pair.client.reset_stream(stream, 8)
        _, events = pair.pump()
        assert kinds(events) == [ngh2.StreamReset, ngh2.StreamClosed]
        assert events[0].error_code == 8

    def test_everything_schedulable_is_written_at_once(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.client.send_data(stream, bytes(60_000), end_stream=True)
        assert len(pair.client.data_to_send()) > 60_000
        assert pair.client.data_to_send() == b""

    def test_pseudo_header_fields_come_first(self) -> None:
        pair = Pair()
        pair.client.send_request([*REQUEST, (b"x-a", b"1")], end_stream=True)
        _, events = pair.pump()
        assert events[0].headers == (*REQUEST, (b"x-a", b"1"))

    def test_never_indexed_fields_stay_so(self) -> None:
        pair = Pair()
        pair.client.send_request([*REQUEST, ngh2.NeverIndexedHeader(b"authorization", b"x")], end_stream=True)
        _, events = pair.pump()
        assert isinstance(events[0].headers[-1], ngh2.NeverIndexedHeader)
        assert dict(events[0].headers)[b"authorization"] == b"x"


class TestFlowControl:
    def test_an_unacknowledged_byte_stays_off_both_windows(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.client.send_data(stream, bytes(100_000))
        _, events = pair.pump()
        assert sum(len(event.data) for event in events if type(event) is ngh2.DataReceived) == 65_535
        assert pair.server.local_window_size == 0
        pair.server.acknowledge_received_data(65_535, stream)
        _, events = pair.pump()
        assert sum(len(event.data) for event in events if type(event) is ngh2.DataReceived) == 100_000 - 65_535

    def test_a_closed_stream_still_owes_its_acknowledgement(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.client.send_data(stream, bytes(40_000))
        pair.pump()
        pair.client.reset_stream(stream)
        pair.pump()
        assert pair.server.local_window_size == 65_535 - 40_000
        pair.server.acknowledge_received_data(40_000, stream)
        assert pair.server.local_window_size == 65_535

    def test_more_than_outstanding_is_a_value_error(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.client.send_data(stream, bytes(10))
        pair.pump()
        with pytest.raises(ValueError, match="unacknowledged"):
            pair.server.acknowledge_received_data(11, stream)

    def test_credit_not_announced_is_less_than_half_a_window(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        for _ in range(200):
            pair.client.send_data(stream, bytes(999))
            _, events = pair.pump()
            for event in events:
                if type(event) is ngh2.DataReceived:
                    pair.server.acknowledge_received_data(len(event.data), stream)
            assert pair.server.local_window_size > 65_535 // 2

    def test_a_frame_cut_by_our_reset_is_lost_to_the_connection_window(self) -> None:
        # H2Connection._check_leak exists because of this; delete it when this fails.
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.pump()
        pair.client.send_data(stream, bytes(10_000))
        data = pair.client.data_to_send()
        pair.server.receive_data(data[:5_000])
        pair.server.reset_stream(stream, 8)
        pair.server.data_to_send()
        pair.server.receive_data(data[5_000:])
        assert ngh2.DataReceived not in kinds(pair.server.events())
        assert pair.server.local_window_size < 65_535
        with pytest.raises(ValueError, match="unacknowledged"):
            pair.server.acknowledge_received_data(1, stream)

    def test_whole_frames_behind_our_reset_are_not_lost(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.pump()
        pair.client.send_data(stream, bytes(60_000))
        data = pair.client.data_to_send()
        pair.server.reset_stream(stream, 8)
        pair.server.data_to_send()
        pair.server.receive_data(data)
        assert pair.server.local_window_size > 65_535 // 2

    def test_what_waits_for_the_window_is_known(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.client.send_data(stream, bytes(100_000))
        assert pair.client.queued_body_size(stream) == 100_000
        pair.client.data_to_send()
        assert pair.client.queued_body_size(stream) == 100_000 - 65_535
        assert pair.client.queued_body_size(99) == 0

    def test_the_end_goes_with_the_last_byte_that_the_window_takes(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.client.send_data(stream, bytes(65_535))
        pair.client.send_trailers(stream, [(b"x", b"1")])
        _, events = pair.pump()
        assert kinds(events)[-1] is ngh2.TrailersReceived

    def test_an_end_on_its_own_waits_for_the_window(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.client.send_data(stream, bytes(65_535))
        pair.pump()
        pair.client.end_stream(stream)
        _, events = pair.pump()
        assert events == []
        assert pair.client.queued_body_size(stream) == 0
        assert pair.client.remote_window_size == 0
        pair.server.acknowledge_received_data(65_535, stream)
        _, events = pair.pump()
        assert events[-1].end_stream


class TestStreams:
    def test_late_calls_to_a_closed_stream_raise_its_error(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.pump()
        pair.client.reset_stream(stream)
        pair.pump()
        for call in (
            lambda: pair.server.send_response(stream, RESPONSE),
            lambda: pair.server.send_informational_response(stream, [(b":status", b"103")]),
            lambda: pair.server.send_data(stream, b"x"),
            lambda: pair.server.send_trailers(stream, [(b"x", b"1")]),
        ):
            with pytest.raises(ngh2.NGH2Error):
                call()

    def test_our_reset_of_a_closed_stream_is_harmless(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.pump()
        pair.client.reset_stream(stream)
        pair.pump()
        try:
            pair.server.reset_stream(stream, 8)
        except ngh2.NGH2Error:
            pass
        client, _ = pair.pump()
        assert ngh2.ConnectionClosed not in kinds(client)

    def test_refused_is_told_with_its_code(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.pump()
        pair.server.reset_stream(stream, 7)
        events, _ = pair.pump()
        assert [event.error_code for event in events] == [7, 7]

    def test_a_reset_with_no_error_behind_a_response_loses_nothing_of_it(self) -> None:
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.pump()
        pair.server.send_response(stream, RESPONSE)
        pair.server.send_data(stream, b"whole", end_stream=True)
        out = pair.server.data_to_send()
        pair.server.reset_stream(stream, 0)
        pair.client.receive_data(out + pair.server.data_to_send())
        assert kinds(pair.client.events()) == [
            ngh2.ResponseReceived,
            ngh2.DataReceived,
            ngh2.StreamReset,
            ngh2.StreamClosed,
        ]

    def test_a_reset_before_the_flush_does_lose_it(self) -> None:
        # Why an early response is flushed before its stream is reset.
        pair = Pair()
        stream = pair.client.send_request(REQUEST)
        pair.pump()
        pair.server.send_response(stream, RESPONSE)
        pair.server.send_data(stream, b"lost", end_stream=True)
        pair.server.reset_stream(stream, 0)
        events, _ = pair.pump()
        assert ngh2.DataReceived not in kinds(events)

    def test_a_header_block_over_the_limit_fails_late(self) -> None:
        pair = Pair(client={"max_send_header_block_length": 1000})
        stream = pair.client.send_request([*REQUEST, (b"x", b"v" * 2000)], end_stream=True)
        assert stream == 1
        assert pair.client.data_to_send() == b""
        (event,) = pair.client.events()
        assert type(event) is ngh2.StreamClosed
        assert event.local_error is not None

    def test_content_length_is_held_against_the_data(self) -> None:
        pair = Pair()
        stream = pair.client.send_request([*REQUEST, (b"content-length", b"4")])
        pair.client.send_data(stream, b"abc", end_stream=True)
        events, _ = pair.pump()
        assert events[0].error_code == 1

    @pytest.mark.parametrize("headers", [[*RESPONSE, (b"content-length", b"4")], RESPONSE])
    def test_an_answer_to_head_has_no_body(self, headers: list[tuple[bytes, bytes]]) -> None:
        pair = Pair()
        stream = pair.client.send_request([(b":method", b"HEAD"), *REQUEST[1:]], end_stream=True)
        pair.pump()
        pair.server.send_response(stream, headers)
        pair.server.send_data(stream, b"body", end_stream=True)
        client, server = pair.pump()
        assert ngh2.DataReceived not in kinds(client) or client[-1].error_code == 1
        assert server[-1].error_code == 1


class TestMalformed:
    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param(REQUEST[1:], id="no method"),
            pytest.param([REQUEST[0], *REQUEST[2:]], id="no scheme"),
            pytest.param([*REQUEST[:2], REQUEST[3]], id="no path"),
            pytest.param(REQUEST[:3], id="no authority and no host"),
            pytest.param([*REQUEST[:2], (b":path", b"a"), REQUEST[3]], id="path without a slash"),
            pytest.param([*REQUEST, REQUEST[2]], id="path twice"),
            pytest.param([*REQUEST, (b"host", b"a"), (b"host", b"a")], id="host twice"),
            pytest.param([*REQUEST[:3], (b"x", b"1"), REQUEST[3]], id="pseudo-header field behind a field"),
            pytest.param([*REQUEST, (b":status", b"200")], id="status in a request"),
            pytest.param([*REQUEST, (b"x", b"a\nb")], id="line break in a value"),
            pytest.param([*REQUEST, (b"connection", b"close")], id="connection"),
            pytest.param([*REQUEST, (b"transfer-encoding", b"chunked")], id="transfer-encoding"),
            pytest.param([*REQUEST, (b"te", b"gzip")], id="te"),
            pytest.param([*REQUEST, (b"content-length", b"1x")], id="content-length"),
            pytest.param([(b":method", b"CONNECT"), REQUEST[2], REQUEST[3]], id="CONNECT with a path"),
        ],
    )
    def test_the_library_refuses(self, headers: list[tuple[bytes, bytes]]) -> None:
        pair = Pair()
        pair.client.send_request(headers, end_stream=True)
        client, server = pair.pump()
        assert ngh2.RequestReceived not in kinds(server)
        assert ngh2.StreamReset in kinds(client)
        pair.client.send_request(GET, end_stream=True)
        _, server = pair.pump()
        assert kinds(server) == [ngh2.RequestReceived], "the connection lives on"

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param([(b"x", b"1")], id="no status"),
            pytest.param([(b":status", b"20")], id="short status"),
            pytest.param([*RESPONSE, (b"connection", b"close")], id="connection"),
        ],
    )
    def test_the_library_refuses_answers(self, headers: list[tuple[bytes, bytes]]) -> None:
        pair = Pair()
        stream = pair.client.send_request(GET, end_stream=True)
        pair.pump()
        pair.server.send_response(stream, headers, end_stream=True)
        client, _ = pair.pump()
        assert ngh2.ResponseReceived not in kinds(client)

    def test_upper_case_is_refused_and_never_sent(self) -> None:
        pair = Pair()
        pair.client.send_request([*REQUEST, (b"X-A", b"1")], end_stream=True)
        _, server = pair.pump()
        assert server[0].headers[-1] == (b"x-a", b"1")
        peer = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False, **_AS_GIVEN))
        peer.initiate_connection()
        peer.send_headers(1, [*REQUEST, (b"X-A", b"1")], end_stream=True)
        server_side = ngh2.Connection(ngh2.Role.SERVER)
        server_side.initiate_connection()
        server_side.receive_data(peer.data_to_send())
        server_side.data_to_send()
        assert ngh2.RequestReceived not in kinds(server_side.events())

    def test_the_library_does_not_compare_host_and_authority(self) -> None:
        pair = Pair()
        pair.client.send_request([*REQUEST, (b"host", b"other")], end_stream=True)
        _, server = pair.pump()
        assert kinds(server) == [ngh2.RequestReceived]

    def test_a_large_header_list_ends_the_connection(self) -> None:
        pair = Pair(client={"max_send_header_block_length": 10**6}, server={"max_inbound_header_list_size": 1000})
        pair.client.send_request([*REQUEST, (b"x", b"v" * 2000)], end_stream=True)
        with pytest.raises(ngh2.DenialOfServiceError):
            pair.server.receive_data(pair.client.data_to_send())
        with pytest.raises(ngh2.ConnectionStateError):
            pair.server.data_to_send()
        assert pair.server.events() == []

    def test_bytes_that_are_no_preface_raise(self) -> None:
        server = ngh2.Connection(ngh2.Role.SERVER)
        server.initiate_connection()
        with pytest.raises(ngh2.ConnectionProtocolError):
            server.receive_data(b"GET / HTTP/1.1\r\n\r\n")

    def test_a_connection_error_is_a_goaway_to_be_written(self) -> None:
        pair = Pair()
        pair.server.receive_data(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")
        pair.client.receive_data(pair.server.data_to_send())
        assert kinds(pair.server.events()) == [ngh2.ConnectionClosed]
        goaway: Any = pair.client.events()[0]
        assert goaway.error_code == 1

    def test_resets_beyond_the_rate_end_the_connection(self) -> None:
        # Why a listener on loopback has its limit raised.
        pair = Pair(server={"stream_reset_rate_limit": (10, 1)})
        closed = False
        for _ in range(50):
            stream = pair.client.send_request(REQUEST)
            pair.pump()
            pair.client.reset_stream(stream)
            client, _ = pair.pump()
            if ngh2.GoAwayReceived in kinds(client):
                closed = True
                break
        assert closed


def _limited(first: bytes, again: bytes, **limits: Any) -> tuple[int, Any]:
    """How many times a server takes `again`, and what it says then: what it raises, or how it closes."""
    server = ngh2.Connection(ngh2.Role.SERVER, ngh2.Configuration(auto_window_update=False, **limits))
    server.initiate_connection({3: 1000})
    server.receive_data(frames.PREFACE + frames.settings() + first)
    server.data_to_send()
    for index in range(3000):
        try:
            server.receive_data(again)
        except ngh2.DenialOfServiceError as error:
            return index, error
        server.data_to_send()
        for event in server.events():
            if type(event) is ngh2.ConnectionClosed:
                return index, event
    raise AssertionError("it takes any number")


class TestAbuse:
    """What we leave to the library: sidecar.policy.calm has the rest."""

    @pytest.mark.parametrize(
        ("first", "again"),
        [
            pytest.param(b"", frames.priority(1, 3), id="PRIORITY"),
            pytest.param(b"", frames.frame(frames.UNKNOWN), id="an unknown type"),
            pytest.param(frames.headers(1, REQUEST), frames.data(1), id="empty DATA"),
            pytest.param(
                frames.headers(1, REQUEST) + frames.reset(1), frames.headers(1, REQUEST), id="HEADERS too late"
            ),
        ],
    )
    def test_frames_of_no_use_are_glitches(self, first: bytes, again: bytes) -> None:
        number, event = _limited(first, again, glitch_rate_limit=(50, 1))
        assert number == 50
        assert event.error_code == 11

    def test_pings_settings_and_window_updates_are_not(self) -> None:
        for again in (frames.ping(), frames.settings(), frames.window_update(0, 1)):
            with pytest.raises(AssertionError, match="any number"):
                _limited(b"", again, glitch_rate_limit=(50, 1))

    def test_what_it_says_of_its_limits(self) -> None:
        # codec.h2.abuse_reason reads these.
        open_block = frames.headers(1, REQUEST, flags=0)
        _, error = _limited(open_block, frames.frame(frames.CONTINUATION, 0, 1), max_continuations=8)
        assert abuse_reason(error) == "continuation"
        _, error = _limited(b"", frames.headers(1, [*REQUEST, (b"x", b"v" * 2000)]), max_inbound_header_list_size=1000)
        assert abuse_reason(error) == "header_list"
        _, error = _limited(b"", frames.headers(1, [*REQUEST, *[(b"x", b"v")] * 200]), max_inbound_header_count=100)
        assert abuse_reason(error) == "header_list"
        _, error = _limited(b"", frames.ping() * 2000)
        assert abuse_reason(error) == "unread_answers"

    def test_what_it_says_of_more_streams_than_allowed(self) -> None:
        # codec.h2.opened_too_many reads it.
        server = ngh2.Connection(ngh2.Role.SERVER, ngh2.Configuration())
        server.initiate_connection({3: 1})
        server.receive_data(frames.PREFACE + frames.settings())
        server.data_to_send()
        server.receive_data(frames.settings(ack=True))
        server.receive_data(frames.headers(1, GET, end=True) + frames.headers(3, GET, end=True))
        server.data_to_send()
        closed: Any = server.events()[-1]
        assert closed.error_code == 1
        assert opened_too_many(closed)

    def test_a_field_of_more_than_64_kib_is_a_compression_error(self) -> None:
        # Far above what is taken anyhow, but it ends the connection and not the stream.
        block = frames.block([*REQUEST, (b"x", b"v" * 66_000)])
        parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
        last = len(parts) - 1
        data = frames.frame(frames.HEADERS, 1, 1, parts[0]) + b"".join(
            frames.frame(frames.CONTINUATION, 4 if index == last else 0, 1, part)
            for index, part in enumerate(parts)
            if index
        )
        number, event = _limited(b"", data, max_inbound_header_list_size=10**6)
        assert (number, event.error_code) == (0, 9)

    def test_one_stream_more_than_the_acknowledged_limit_ends_the_connection(self) -> None:
        # RFC 9113 5.1.2 asks for a stream error, 5.4.1 allows it.
        first = frames.settings(ack=True) + b"".join(frames.headers(2 * n + 1, REQUEST) for n in range(1000))
        number, event = _limited(first, frames.headers(2001, REQUEST))
        assert (number, event.error_code) == (0, 1)


class TestGoaway:
    def test_streams_above_the_last_one_are_closed_as_refused(self) -> None:
        pair = Pair()
        first, second = pair.client.send_request(REQUEST), pair.client.send_request(REQUEST)
        pair.pump()
        pair.server.send_goaway(0, last_stream_id=first)
        client, _ = pair.pump()
        assert kinds(client) == [ngh2.GoAwayReceived, ngh2.StreamClosed]
        assert (client[1].stream_id, client[1].error_code) == (second, 7)

    def test_no_request_after_it(self) -> None:
        pair = Pair()
        pair.client.send_request(REQUEST)
        pair.pump()
        pair.server.send_shutdown_notice()
        client, _ = pair.pump()
        assert client[0].last_stream_id == 2**31 - 1
        with pytest.raises(ngh2.ConnectionClosingError):
            pair.client.send_request(REQUEST)

    def test_a_server_serves_what_comes_after_its_notice(self) -> None:
        pair = Pair()
        pair.client.send_request(GET, end_stream=True)
        crossing = pair.client.data_to_send()
        pair.server.send_shutdown_notice()
        pair.server.data_to_send()
        pair.server.receive_data(crossing)
        assert kinds(pair.server.events()) == [ngh2.RequestReceived]

    def test_a_server_ignores_what_comes_after_its_final_goaway(self) -> None:
        pair = Pair()
        pair.client.send_request(GET)
        pair.pump()
        pair.client.send_request(GET, end_stream=True)
        crossing = pair.client.data_to_send()
        pair.server.send_goaway(0)
        pair.server.data_to_send()
        pair.server.receive_data(crossing)
        assert pair.server.events() == []

    def test_the_end_is_told_with_the_events_before_it(self) -> None:
        # Behind ConnectionClosed nothing may be called any more, though the
        # events before it have not been seen yet.
        pair = Pair()
        stream = pair.client.send_request(GET, end_stream=True)
        pair.pump()
        pair.server.send_goaway(0)
        pair.server.send_response(stream, RESPONSE)
        pair.server.send_data(stream, b"last", end_stream=True)
        pair.client.receive_data(pair.server.data_to_send())
        assert kinds(pair.client.events())[-1] is ngh2.ConnectionClosed
        with pytest.raises(ngh2.ConnectionStateError):
            pair.client.acknowledge_received_data(4, stream)
        assert pair.client.want_write is False

    def test_the_peers_limit_is_assumed_until_its_settings_come(self) -> None:
        client = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(peer_max_concurrent_streams=2))
        client.initiate_connection()
        for _ in range(3):
            client.send_request(GET, end_stream=True)
        server = ngh2.Connection(ngh2.Role.SERVER)
        server.initiate_connection()
        server.receive_data(client.data_to_send())
        assert kinds(server.events()).count(ngh2.RequestReceived) == 2

    def test_settings_and_pings_are_told(self) -> None:
        pair = Pair()
        pair.server.update_settings({3: 5})
        pair.server.ping(b"12345678")
        client, server = pair.pump()
        assert client[0].settings[3] == 5
        assert kinds(client) == [ngh2.SettingsReceived, ngh2.PingReceived]
        assert kinds(server) == [ngh2.SettingsAcknowledged, ngh2.PingAcknowledged]
        assert server[1].opaque_data == b"12345678"
