"""sidecar.wire.h1_client: what an HTTP/1.1 server is told and may answer, byte by byte."""

from typing import Any

import pytest

from sidecar.model.head import RequestHead
from sidecar.model.outcome import Failure
from tests.wire.h1_peers import Upstream
from tests.wire.h2_peers import Heard

OK = b"HTTP/1.1 200 OK\r\n"
SHORT = OK + b"Content-Length: 3\r\n\r\nabc"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture
def server() -> Upstream:
    return Upstream()


def used(server: Upstream) -> Upstream:
    """After one exchange that went well."""
    server.ask()
    server.say(SHORT)
    server.transport.take()
    assert server.reusable
    server.idle.clear()
    return server


def test_a_request_and_its_answer(server: Upstream) -> None:
    heard = server.ask()
    server.say(SHORT)
    assert heard.log == [("head", 200, False), ("data", 3, True)]
    assert server.reusable


def test_a_body_with_a_length_goes_as_it_is(server: Upstream) -> None:
    heard = server.ask(b"POST", False, headers=[(b"content-length", b"6")], length=6)
    assert server.do(lambda: heard.stream.send_data(b"abc", False)) == b"abc"
    assert server.do(lambda: heard.stream.send_data(b"def", True)) == b"def"


def test_a_body_of_unknown_length_is_chunked(server: Upstream) -> None:
    written: list[bytes] = []
    heard = server.ask(b"POST", False, length=None)
    for data, end in ((b"abc", False), (b"", False), (b"0123456789", True)):
        written.append(server.do(lambda data=data, end=end: heard.stream.send_data(data, end)))
    assert written == [b"3\r\nabc\r\n", b"", b"a\r\n0123456789\r\n0\r\n\r\n"]
    server.say(SHORT)
    assert server.reusable


def test_request_trailers(server: Upstream) -> None:
    heard = server.ask(b"POST", False, length=None)
    assert server.do(lambda: heard.stream.send_trailers([(b"x-t", b"1")])) == b"0\r\nx-t: 1\r\n\r\n"
    server.say(SHORT)
    assert server.reusable


def test_response_trailers_without_those_that_frame_route_or_authenticate(server: Upstream) -> None:
    heard = server.ask()
    server.say(CHUNKED + b"0\r\nX-T: 1\r\nTrailer: z\r\nSet-Cookie: s\r\nX-Sidecar-Error: z\r\n\r\n")
    assert heard.trailers == [(b"x-t", b"1"), (b"x-sidecar-error", b"z")]
    assert server.reusable


def test_nothing_is_in_both_a_head_and_its_end_twice(server: Upstream) -> None:
    heard = server.ask(b"HEAD")
    server.say(OK + b"Content-Length: 3\r\n\r\n")
    assert heard.log == [("head", 200, True)]
    assert server.reusable


def test_1xx_then_the_answer(server: Upstream) -> None:
    heard = server.ask(b"POST", False, headers=[(b"expect", b"100-continue"), (b"content-length", b"1")], length=1)
    server.say(b"HTTP/1.1 100 Continue\r\n\r\n")
    server.say(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
    assert heard.log == [("informational", 100), ("informational", 103)]
    server.do(lambda: heard.stream.send_data(b"a", True))
    server.say(SHORT)
    assert server.reusable


def test_1xx_without_end(server: Upstream) -> None:
    heard = server.ask()
    for _ in range(100):
        if not server.transport.closing:
            server.say(b"HTTP/1.1 103 E\r\n\r\n")
    assert heard.failure is Failure.PROTOCOL
    assert server.transport.aborted


@pytest.mark.parametrize(
    ("data", "ended"),
    [
        (SHORT + SHORT, True),
        (SHORT + b"x", True),
        (b"garbage\r\n\r\n", False),
        (OK + b"X: " + b"a" * 70000 + b"\r\n\r\n", False),
        (SWITCH, False),
        (OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        (CHUNKED + b"zz\r\n", False),
    ],
    ids=["two answers", "left over", "garbage", "long fields", "101 unasked", "two framings", "no chunk"],
)
def test_a_server_that_breaks_the_protocol(server: Upstream, data: bytes, ended: bool) -> None:
    heard = server.ask()
    server.say(data)
    assert heard.ended is ended
    assert heard.failure is (None if ended else Failure.PROTOCOL)
    assert server.transport.aborted
    assert not server.reusable


def test_an_answer_that_nobody_asked_for(server: Upstream) -> None:
    server.say(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert server.transport.aborted
    assert server.connection.transport is None


# Back to the pool.


@pytest.mark.parametrize(
    ("data", "reusable"),
    [
        (SHORT, True),
        (CHUNKED + b"0\r\n\r\n", True),
        (OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", True),
    ],
)
def test_when_a_connection_is_used_again(server: Upstream, data: bytes, reusable: bool) -> None:
    heard = server.ask()
    server.say(data)
    assert heard.ended
    assert server.reusable is reusable
    assert server.transport.closing is not reusable


def test_an_answer_before_the_end_of_the_request_is_told_and_the_connection_dropped(server: Upstream) -> None:
    heard = server.ask(b"POST", False, length=None)
    server.say(SHORT)
    assert heard.ended
    assert heard.failure is None
    assert server.transport.aborted
    assert server.do(lambda: heard.stream.send_data(b"late", True)) == b""


def test_an_answer_before_a_request_was_flushed_waits_for_its_end(server: Upstream) -> None:
    heard = server.ask(b"POST", False, length=None)

    def both() -> None:
        heard.stream.send_data(b"abc", True)
        server.connection.data_received(SHORT)

    assert server.do(both) == b"3\r\nabc\r\n0\r\n\r\n"
    assert server.reusable


def test_a_paused_connection_reads_again_when_it_is_used_again(server: Upstream) -> None:
    heard = server.ask()
    heard.on_writable_do = lambda: None
    server.say(CHUNKED)
    server.connection.pause()
    assert not server.transport.reading
    # Its end was in the same read as what filled the client's buffer.
    server.say(b"0\r\n\r\n")
    assert server.reusable
    assert server.transport.reading


def test_the_keep_alive_hint(server: Upstream) -> None:
    server.ask()
    server.say(OK + b"Keep-Alive: timeout=7\r\nContent-Length: 0\r\n\r\n")
    assert server.connection.idle_hint == 7


# Ends of the connection.


def test_close_delimited(server: Upstream) -> None:
    heard = server.ask()
    server.say(OK + b"\r\nabc")
    assert not server.half_close()
    server.lose()
    assert heard.log == [("head", 200, False), ("data", 3, False), ("data", 0, True)]
    assert server.closed == [False]
    assert not server.idle


def test_close_delimited_and_lost_at_once(server: Upstream) -> None:
    heard = server.ask()
    server.say(OK + b"\r\nabc")
    server.lose()
    assert heard.ended


def test_close_delimited_and_reset(server: Upstream) -> None:
    heard = server.ask()
    server.say(OK + b"\r\nabc")
    server.lose(ConnectionResetError())
    assert heard.failure is Failure.RESET


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 2", OK + b"Content-Length: 5\r\n\r\nabc", CHUNKED])
@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_an_answer_that_is_cut_off(server: Upstream, data: bytes, error: Exception | None) -> None:
    heard = server.ask()
    if data:
        server.say(data)
    if error is None:
        assert not server.half_close()
    server.lose(error)
    assert heard.failure is Failure.RESET
    assert server.closed == [False]


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (b"", Failure.STALE_REUSE),
        (b"H", Failure.RESET),
        (b"HTTP/1.1 103 E\r\n\r\n", Failure.RESET),
        (OK, Failure.RESET),
        (OK + b"Content-Length: 3\r\n\r\n", Failure.RESET),
    ],
    ids=["nothing", "a byte", "1xx", "half a head", "a head"],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_stale_is_a_reused_connection_that_said_nothing(
    server: Upstream, data: bytes, failure: Failure, method: bytes
) -> None:
    heard = used(server).ask(method)
    if data:
        server.say(data)
    server.lose()
    expected = None if method == b"HEAD" and data.endswith(b"\r\n\r\n") and b"200" in data else failure
    assert heard.failure is expected


def test_nothing_was_sent_when_nothing_was_written(server: Upstream) -> None:
    heard: Any = None
    server.runtime.turn.begin()
    heard = server.ask()
    server.lose()
    server.runtime.turn.end()
    assert heard.failure is Failure.UNSENT


def test_the_close_of_an_idle_connection_teaches_its_owner(server: Upstream) -> None:
    used(server)
    assert not server.half_close()
    assert server.connection.transport is None  # nobody takes it up from here on
    server.lose()
    assert server.closed == [True]


def test_our_own_close_teaches_nothing(server: Upstream) -> None:
    used(server)
    server.connection.close()
    server.lose()
    assert server.closed == [False]


def test_an_exchange_that_gives_up_hears_nothing_more(server: Upstream) -> None:
    heard = server.ask()
    server.connection.reset(Failure.CANCELLED)
    assert server.transport.aborted
    server.lose()
    assert heard.log == []
    assert server.closed == [False]


def test_a_bug_ends_one_connection(server: Upstream) -> None:
    heard = server.ask()
    heard.on_head = lambda head, end: 1 / 0  # type: ignore[assignment, method-assign]
    server.say(SHORT)
    assert len(server.runtime.crashes) == 1
    assert server.transport.aborted


# Upgrades.


def test_a_websocket(server: Upstream) -> None:
    heard = server.ask(upgrade=b"websocket", end=False)
    server.say(SWITCH + b"raw")
    assert heard.log == [("head", 101, False), ("data", 3, False)]
    assert server.do(lambda: heard.stream.send_data(b"up", False)) == b"up"
    assert server.do(lambda: heard.stream.send_data(b"last", True)) == b"last"
    assert server.transport.eof
    server.say(b"more")
    assert not server.half_close()
    server.lose()
    assert heard.body == b"rawmore"
    assert heard.ended
    assert server.closed == [False]


def test_a_websocket_whose_server_ends_first(server: Upstream) -> None:
    heard = server.ask(upgrade=b"websocket", end=False)
    server.say(SWITCH)
    assert server.half_close()
    assert heard.ended
    for data in (b"up", b"and up"):
        assert server.do(lambda data=data: heard.stream.send_data(data, False)) == data
    assert not server.transport.closing
    assert server.do(lambda: heard.stream.send_data(b"last", True)) == b"last"
    assert server.transport.closing
    assert not server.transport.aborted


def test_over_tls_only_the_server_can_end_a_tunnel(server: Upstream) -> None:
    server.transport.half_closable = False
    heard = server.ask(upgrade=b"websocket", end=False)
    server.say(SWITCH)
    server.do(lambda: heard.stream.send_data(b"last", True))
    assert not server.transport.eof
    server.say(b"more")
    assert heard.body == b"more"


def test_a_tunnel_that_is_reset(server: Upstream) -> None:
    heard = server.ask(upgrade=b"websocket", end=False)
    server.say(SWITCH)
    server.lose(ConnectionResetError())
    assert heard.failure is Failure.RESET


def test_a_refused_upgrade_does_not_leave_a_connection(server: Upstream) -> None:
    heard = server.ask(upgrade=b"websocket", end=False)
    server.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    assert heard.log == [("head", 403, True)]
    assert server.transport.closing
    assert not server.idle


# Back-pressure.


def test_a_full_server_stops_the_sender(server: Upstream) -> None:
    heard = server.ask(b"POST", False, length=None)
    said: list[bool] = []
    server.connection.pause_writing()
    server.do(lambda: said.append(heard.stream.send_data(b"a", False)))
    server.connection.resume_writing()
    server.do(lambda: said.append(heard.stream.send_data(b"b", False)))
    assert said == [False, True]
    assert heard.log == [("full",), ("writable",)]


def test_an_exchange_can_stop_the_server(server: Upstream) -> None:
    heard = server.ask()
    heard.stream.pause()
    assert not server.transport.reading
    heard.stream.resume()
    assert server.transport.reading


def test_a_request_that_is_given_up_before_it_was_written(server: Upstream) -> None:
    def begin_and_give_up() -> None:
        head = RequestHead(b"POST", b"/", b"a", [(b"content-length", b"5")], length=5)
        server.connection.open(Heard(server.connection)).send_head(head, False)
        server.connection.send_data(b"abc", False)
        server.connection.reset(Failure.CANCELLED)

    assert server.do(begin_and_give_up) == b""
    assert server.reusable
    heard = server.ask()
    server.say(SHORT)
    assert heard.ended


@pytest.mark.parametrize("path", [b"/a#b", b"/\xe4"])
def test_a_target_that_only_http2_lets_in(path: bytes, server: Upstream) -> None:
    heard = Heard(server.connection)
    head = RequestHead(b"GET", path, b"a", [])
    assert server.do(lambda: server.connection.open(heard).send_head(head, True)) == b""
    assert heard.log == [("reset", Failure.BAD_REQUEST)]
    assert server.reusable
