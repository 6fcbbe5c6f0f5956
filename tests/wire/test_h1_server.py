"""sidecar.wire.h1_server: what an HTTP/1.1 client says and gets, byte by byte."""

import json
from typing import Any

import pytest

from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.outcome import Failure
from tests.wire.h1_peers import Downstream, respond

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
WEBSOCKET = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CONNECT = b"CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n"
SWITCH = ResponseHead(101, [(b"upgrade", b"websocket")], 0)


def get(path: bytes, more: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + more + b"\r\n"


def ok(body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), more, body)


@pytest.fixture
def client() -> Downstream:
    return Downstream()


def test_a_request_and_its_answer(client: Downstream) -> None:
    assert client.say(GET) == b""
    assert client.answer(b"abc") == ok(b"abc")
    assert not client.transport.closing


def test_one_connection_serves_many_requests(client: Downstream) -> None:
    for path in (b"/1", b"/2", b"/3"):
        client.say(get(path))
        assert client.answer(path) == ok(path)
    assert client.paths == [b"/1", b"/2", b"/3"]


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_a_request_with_a_body(client: Downstream, step: int) -> None:
    data = POST + b"abc"
    for i in range(0, len(data), step):
        client.say(data[i : i + step])
    assert client.heard.body == b"abc"
    assert client.heard.ended
    assert client.answer() == ok(b"")


def test_request_trailers_without_those_that_frame_route_or_authenticate(client: Downstream) -> None:
    client.say(CHUNKED + b"0\r\nX-T: 1\r\nTrailer: x\r\nHost: evil\r\nAuthorization: x\r\nCookie: c\r\n\r\n")
    assert client.heard.trailers == [(b"x-t", b"1")]


def test_trailers_of_which_none_may_pass_are_a_plain_end(client: Downstream) -> None:
    client.say(CHUNKED + b"0\r\nHost: evil\r\n\r\n")
    assert client.heard.trailers is None
    assert client.heard.ended


def test_an_answer_of_unknown_length_is_chunked(client: Downstream) -> None:
    client.say(GET)

    def answer() -> None:
        client.connection.send_head(ResponseHead(200, [], None), False)
        client.connection.send_data(b"abc", False)
        client.connection.send_data(b"", False)
        client.connection.send_data(b"0123456789", False)
        client.connection.send_trailers([(b"x-t", b"1")])

    assert client.do(answer) == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\nx-t: 1\r\n\r\n"
    )
    client.say(GET)
    client.do(lambda: client.connection.send_head(ResponseHead(200, [], None), False))
    assert client.do(lambda: client.connection.send_data(b"ab", True)) == b"2\r\nab\r\n0\r\n\r\n"
    assert not client.transport.closing


def test_a_client_of_1_0_gets_a_body_until_close(client: Downstream) -> None:
    client.say(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")

    def answer() -> None:
        client.connection.send_informational(ResponseHead(103, [], None))
        client.connection.send_head(ResponseHead(200, [], None), False)
        client.connection.send_data(b"abc", False)
        client.connection.send_trailers([(b"x-t", b"1")])

    assert client.do(answer) == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"
    assert client.transport.closing
    assert not client.transport.aborted


def test_a_client_of_1_0_is_told_that_it_may_go_on(client: Downstream) -> None:
    client.say(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert client.answer(b"abc") == ok(b"abc", b"connection: keep-alive\r\n")
    assert not client.transport.closing


@pytest.mark.parametrize("head", [b"GET / HTTP/1.0\r\n\r\n", get(b"/", b"Connection: close\r\n")])
def test_the_last_answer_says_so_and_closes(client: Downstream, head: bytes) -> None:
    client.say(head)
    assert client.answer(b"abc") == ok(b"abc", b"connection: close\r\n")
    assert client.transport.closing
    assert not client.transport.aborted


def test_nothing_is_said_behind_an_answer_with_connection_close(client: Downstream) -> None:
    client.on_begin = lambda head: respond(client.connection, b"abc")
    data = client.say(get(b"/", b"Connection: close\r\n") + b"garbage" + GET)
    assert data == ok(b"abc", b"connection: close\r\n")
    assert client.transport.closing


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (ResponseHead(200, [(b"content-length", b"5")], 5), b"content-length: 5\r\n"),
        (ResponseHead(200, [], None), b""),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_head_gets_no_body_whatever_comes(
    client: Downstream, head: ResponseHead, expected: bytes, at_once: bool
) -> None:
    client.say(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")

    def answer() -> None:
        client.connection.send_head(head, at_once)
        if not at_once:
            client.connection.send_data(b"abcde", False)
            client.connection.send_data(b"", True)

    assert client.do(answer) == b"HTTP/1.1 200 OK\r\n" + expected + b"\r\n"
    client.say(GET)
    assert client.answer(b"x") == ok(b"x")


@pytest.mark.parametrize(("status", "phrase"), [(204, b"No Content"), (304, b"Not Modified")])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_no_body_behind_204_and_304(client: Downstream, status: int, phrase: bytes, version: bytes) -> None:
    client.say(b"GET / HTTP/" + version + b"\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")

    def answer() -> None:
        # As HTTP/2 may tell it: the end behind the head.
        client.connection.send_head(ResponseHead(status, [], None), False)
        client.connection.send_data(b"", True)

    kept = b"connection: keep-alive\r\n" if version == b"1.0" else b""
    assert client.do(answer) == b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, phrase, kept)
    assert not client.transport.closing


def test_1xx_passes(client: Downstream) -> None:
    client.say(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    head, end, _ = client.begun[0]
    assert (b"expect", b"100-continue") in head.headers
    assert not end
    connection = client.connection
    assert client.do(lambda: connection.send_informational(ResponseHead(100, [], 0))).startswith(b"HTTP/1.1 100 ")
    early = client.do(lambda: connection.send_informational(ResponseHead(103, [(b"link", b"x")], 0)))
    assert early.split(b"\r\n", 1)[1] == b"link: x\r\n\r\n"
    client.say(b"abc")
    assert client.heard.body == b"abc"
    assert client.answer(b"x") == ok(b"x")
    assert client.do(lambda: connection.send_informational(ResponseHead(103, [], 0))) == b""


# Early answers.


def test_a_short_body_behind_an_early_answer_is_dropped_and_the_connection_lives(client: Downstream) -> None:
    client.on_begin = lambda head: respond(client.connection, b"no", 404)
    assert b"connection: close" not in client.say(POST + b"abc" + GET)
    assert len(client.begun) == 2
    client.say(POST + b"a")
    client.say(b"bc")
    client.on_begin = lambda head: None
    client.say(GET)
    assert client.answer(b"x") == ok(b"x")
    assert not client.transport.closing
    assert not client.begun[0][2].log


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n",
        CHUNKED,
        POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"),
        POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    ],
    ids=["long", "of unknown length", "perhaps never sent", "the last one"],
)
def test_another_early_answer_closes_but_is_not_destroyed(client: Downstream, head: bytes) -> None:
    client.say(head)
    assert client.answer(b"no") == ok(b"no", b"connection: close\r\n")
    # Our direction ends; what the client still sends is read and dropped.
    assert client.transport.eof
    assert not client.transport.closing
    assert client.transport.reading
    client.say(b"x" * 100 + GET)
    assert len(client.begun) == 1
    client.half_close()
    assert client.transport.closing


def test_the_drop_after_an_early_answer_is_bounded_in_time(client: Downstream) -> None:
    client.say(CHUNKED)
    client.answer(b"no")
    client.runtime.timers.advance(1.9)
    assert not client.transport.closing
    client.runtime.timers.advance(0.2)
    assert client.transport.aborted


# Pipelining.


@pytest.mark.parametrize("step", [1, 13, 10000])
def test_pipelined_requests_are_answered_in_order(client: Downstream, step: int) -> None:
    data = get(b"/1") + CHUNKED + b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n" + POST + b"xyz" + get(b"/4")
    written = b""
    for i in range(0, len(data), step):
        if not client.transport.reading:
            break
        written += client.say(data[i : i + step])
    if step == 10000:
        assert client.paths == [b"/1"]
        for number in range(1, 5):
            assert len(client.begun) == number
            written += client.answer(b"%d" % number)
        assert written == ok(b"1") + ok(b"2") + ok(b"3") + ok(b"4")
        assert client.begun[1][2].trailers == [(b"x-t", b"1")]
        assert bytes(client.begun[2][2].body) == b"xyz"
        assert client.transport.reading


def test_pipelined_requests_that_are_answered_at_once(client: Downstream) -> None:
    client.on_begin = lambda head: respond(client.connection, head.path)
    assert client.say(b"".join(get(b"/%d" % i) for i in range(5))) == b"".join(ok(b"/%d" % i) for i in range(5))


def test_a_pipeline_is_bounded(client: Downstream) -> None:
    client.say(GET)
    client.say(GET * 100)
    assert not client.transport.reading
    for _ in range(100):
        client.answer()
    assert client.transport.reading
    assert len(client.begun) == 101


def test_a_pipelined_body_stops_reading_until_it_is_its_turn(client: Downstream) -> None:
    client.say(GET)
    client.say(b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
    assert not client.transport.reading
    client.connection.resume()  # of the exchange under way: not its business
    assert not client.transport.reading
    client.answer()
    assert client.paths == [b"/", b"/2"]
    assert client.transport.reading
    client.say(b"def")
    assert client.heard.body == b"abcdef"
    assert client.heard.ended


def test_an_exchange_that_stopped_a_pipelined_body_is_not_overruled(client: Downstream) -> None:
    client.say(GET)
    client.say(b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
    client.on_begin = lambda head: client.connection.pause()
    client.answer()
    assert not client.transport.reading
    client.do(client.connection.resume)
    assert client.transport.reading


def test_requests_before_garbage_are_answered_first(client: Downstream) -> None:
    assert client.say(get(b"/1") + get(b"/2") + b"garbage\r\n\r\n") == b""
    assert client.answer(b"1") == ok(b"1")
    data = client.answer(b"2")
    assert data.startswith(ok(b"2") + b"HTTP/1.1 400 ")
    assert client.transport.eof


def test_a_pipelined_request_with_a_broken_body(client: Downstream) -> None:
    client.say(get(b"/1") + CHUNKED + b"zz\r\n")
    data = client.answer(b"1")
    assert data.startswith(ok(b"1") + b"HTTP/1.1 400 ")
    assert client.heard.failure is Failure.BAD_REQUEST


def test_behind_the_last_answer_no_pipelined_request_runs(client: Downstream) -> None:
    client.on_begin = lambda head: respond(client.connection, b"x", 404)
    client.connection.draining = True
    client.say(get(b"/1") + get(b"/2"))
    assert client.paths == [b"/1"]
    assert client.transport.closing


# Upgrades.


@pytest.mark.parametrize("together", [True, False])
def test_a_websocket(client: Downstream, together: bool) -> None:
    client.say(WEBSOCKET + (b"early" if together else b""))
    head, end, heard = client.begun[0]
    assert (head.upgrade, end, heard.ended) == (b"websocket", False, False)
    switched = client.do(lambda: client.connection.send_head(SWITCH, False))
    assert switched.split(b"\r\n", 1)[1] == b"upgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    client.say(GET)
    assert heard.body == (b"early" if together else b"") + GET
    assert client.do(lambda: client.connection.send_data(b"raw", False)) == b"raw"
    assert client.half_close()
    assert heard.ended
    assert client.do(lambda: client.connection.send_data(b"last", True)) == b"last"
    assert client.transport.closing
    assert not client.transport.aborted


def test_a_websocket_whose_server_ends_first(client: Downstream) -> None:
    client.say(WEBSOCKET)
    heard = client.heard
    client.do(lambda: client.connection.send_head(SWITCH, False))
    client.do(lambda: client.connection.send_data(b"bye", True))
    assert client.transport.eof
    assert not client.transport.closing
    client.say(b"more")
    assert heard.body == b"more"
    assert client.connection.open_streams == 1
    client.runtime.timers.advance(1000)
    assert not client.transport.closing
    assert not client.half_close()
    assert heard.ended
    client.lose()
    assert heard.failure is None


def test_a_client_that_leaves_a_half_closed_websocket_is_told_of(client: Downstream) -> None:
    client.say(WEBSOCKET)
    client.do(lambda: client.connection.send_head(SWITCH, False))
    client.do(lambda: client.connection.send_data(b"", True))
    client.lose()
    assert client.heard.failure is Failure.CANCELLED


@pytest.mark.parametrize("together", [True, False])
def test_behind_a_refused_upgrade_requests_go_on(client: Downstream, together: bool) -> None:
    if together:
        client.say(WEBSOCKET + get(b"/2"))
    else:
        client.say(WEBSOCKET)
        client.say(get(b"/2"))
    assert client.answer(b"no", 403).startswith(b"HTTP/1.1 403 ")
    assert client.paths == [b"/ws", b"/2"]
    assert client.answer(b"x") == ok(b"x")
    assert not client.transport.closing


def test_an_upgrade_that_is_refused_at_once(client: Downstream) -> None:
    client.on_begin = lambda head: respond(client.connection, head.path)
    assert client.say(WEBSOCKET + get(b"/2") + WEBSOCKET) == ok(b"/ws") + ok(b"/2") + ok(b"/ws")


def test_a_pipelined_upgrade_waits_for_its_turn(client: Downstream) -> None:
    client.say(get(b"/1") + WEBSOCKET + b"raw")
    assert client.answer(b"1") == ok(b"1")
    assert client.paths == [b"/1", b"/ws"]
    client.do(lambda: client.connection.send_head(SWITCH, False))
    assert client.heard.body == b"raw"


def test_too_much_before_the_answer_to_an_upgrade(client: Downstream) -> None:
    client.say(WEBSOCKET)
    for _ in range(3):
        client.connection.data_received(b"x" * 30000)
    assert client.heard.failure is Failure.BAD_REQUEST
    assert client.transport.take().startswith(b"HTTP/1.1 400 ")


def test_connect_becomes_a_tunnel(client: Downstream) -> None:
    client.say(CONNECT + b"raw")
    head, end, heard = client.begun[0]
    assert (head.method, head.authority, end) == (b"CONNECT", b"b:443", False)
    answer = client.do(lambda: client.connection.send_head(ResponseHead(200, [], None), False))
    assert answer == b"HTTP/1.1 200 OK\r\n\r\n"
    client.say(b"more")
    assert heard.body == b"rawmore"


def test_a_refused_connect(client: Downstream) -> None:
    client.on_begin = lambda head: respond(client.connection, b"no", 403)
    assert b" 403 " in client.say(CONNECT)
    client.on_begin = lambda head: None
    client.say(GET)
    assert client.answer(b"x") == ok(b"x")


class Successor:
    def __init__(self) -> None:
        self.data = b""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data


@pytest.mark.parametrize("before", [b"", get(b"/1")])
def test_a_detached_connection_goes_on_with_the_bytes_that_came_along(client: Downstream, before: bytes) -> None:
    successor = Successor()

    def begin(head: RequestHead) -> None:
        if head.method == b"CONNECT":
            client.connection.receiver = None
            client.connection.detach(lambda: successor)  # type: ignore[arg-type, return-value]
        else:
            respond(client.connection, b"1")

    client.on_begin = begin
    assert client.say(before + CONNECT + b"PRI") == (ok(b"1") if before else b"") + b"HTTP/1.1 200 OK\r\n\r\n"
    assert client.transport.protocol is successor
    assert successor.transport is client.transport
    assert successor.data == b"PRI"
    assert client.closed == [client.connection]


# Bytes that are no request.


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"garbage\r\n\r\n", 400, "bad_request"),
        (b'"\\\r\n\r\n', 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400, "bad_request"),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n", 414, "too_large"),
        (get(b"/", b"X: " + b"a" * 70000 + b"\r\n"), 431, "too_large"),
        (get(b"/", b"X: y\r\n" * 300), 431, "too_large"),
    ],
)
def test_what_is_no_request_is_told_so(client: Downstream, data: bytes, status: int, reason: str) -> None:
    head, body = client.say(data).split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 %d " % status)
    assert b"x-sidecar-error: " + reason.encode() in lines
    assert b"connection: close" in lines
    assert b"content-length: %d" % len(body) in lines
    assert json.loads(body)["error"] == reason
    assert client.runtime.refusals == [status]
    assert client.transport.eof
    assert not client.begun
    assert client.say(GET) == b""
    assert not client.begun


def test_a_broken_body_before_the_answer(client: Downstream) -> None:
    client.say(CHUNKED)
    assert client.say(b"zz\r\n").startswith(b"HTTP/1.1 400 ")
    assert client.heard.failure is Failure.BAD_REQUEST


def test_a_broken_body_within_the_answer(client: Downstream) -> None:
    client.say(CHUNKED)
    client.do(lambda: client.connection.send_head(ResponseHead(200, [], None), False))
    assert client.say(b"zz\r\n") == b""
    assert client.heard.failure is Failure.BAD_REQUEST
    assert client.transport.closing


def test_a_bug_ends_one_connection(client: Downstream) -> None:
    client.on_begin = lambda head: 1 / 0
    client.say(GET)
    assert client.transport.closing
    assert len(client.runtime.crashes) == 1


# Ends.


def test_a_client_that_leaves_is_told_of(client: Downstream) -> None:
    client.say(GET)
    client.lose()
    assert client.heard.failure is Failure.CANCELLED
    assert client.closed == [client.connection]
    assert not client.runtime.timers.waiting


def test_a_client_that_half_closes_has_left(client: Downstream) -> None:
    client.say(GET)
    assert not client.half_close()


@pytest.mark.parametrize("length", [None, 10])
def test_a_framed_answer_that_breaks_is_cut_off_behind_what_came(client: Downstream, length: int | None) -> None:
    client.say(GET)

    def answer() -> None:
        client.connection.send_head(ResponseHead(200, [], length), False)
        client.connection.send_data(b"abc", False)
        client.connection.reset(Failure.RESET)

    written = client.do(answer)
    assert b"abc" in written
    assert not written.endswith(b"0\r\n\r\n")
    assert client.transport.closing
    client.runtime.timers.advance(3)
    assert client.transport.aborted  # a client that does not read does not keep it


@pytest.mark.parametrize("kind", ["1.0", "tunnel"])
def test_an_answer_until_close_that_breaks_is_reset(client: Downstream, kind: str) -> None:
    client.say(b"GET / HTTP/1.0\r\n\r\n" if kind == "1.0" else WEBSOCKET)
    head = ResponseHead(200, [], None) if kind == "1.0" else SWITCH

    def answer() -> None:
        client.connection.send_head(head, False)
        client.connection.send_data(b"abc", False)

    client.do(answer)
    client.do(lambda: client.connection.reset(Failure.RESET))
    assert client.transport.aborted
    assert client.transport.socket.reset_on_close


def test_a_full_client_stops_the_sender(client: Downstream) -> None:
    client.say(GET)
    said: list[bool] = []
    client.do(lambda: client.connection.send_head(ResponseHead(200, [], None), False))
    client.do(lambda: said.append(client.connection.send_data(b"a", False)))
    client.connection.pause_writing()
    client.do(lambda: said.append(client.connection.send_data(b"b", False)))
    assert said == [True, False]
    assert ("writable",) not in client.heard.log
    client.connection.resume_writing()
    assert client.heard.log == [("full",), ("writable",)]


def test_an_exchange_can_stop_the_client(client: Downstream) -> None:
    client.say(CHUNKED)
    client.connection.pause()
    assert not client.transport.reading
    client.connection.resume()
    assert client.transport.reading


def test_a_body_that_was_stopped_does_not_stop_the_next_request(client: Downstream) -> None:
    client.say(CHUNKED + b"0\r\n\r\n")
    client.connection.pause()
    client.answer()
    assert client.transport.reading


def test_a_client_that_says_nothing_is_closed(client: Downstream) -> None:
    client.runtime.timers.advance(59)
    assert not client.transport.closing
    client.runtime.timers.advance(2)
    assert client.transport.closing


def test_an_idle_client_is_closed_and_a_busy_one_is_not(client: Downstream) -> None:
    client.say(GET)
    client.runtime.timers.advance(1000)
    assert not client.transport.closing
    client.runtime.turn.begin()
    client.runtime.turn.end()
    client.answer()
    client.runtime.timers.advance(299)
    assert not client.transport.closing
    client.runtime.timers.advance(302)
    assert client.transport.closing


# Drain.


@pytest.mark.parametrize("how", ["drain", "close_idle"])
def test_a_drained_connection_closes_after_the_answer_under_way(client: Downstream, how: str) -> None:
    client.say(GET)
    getattr(client.connection, how)()
    assert client.connection.open_streams == 1
    assert client.answer(b"x") == ok(b"x", b"connection: close\r\n")
    assert client.transport.closing


def test_a_drained_idle_connection_answers_once_more(client: Downstream) -> None:
    client.connection.drain()
    assert not client.transport.closing
    client.say(GET)
    assert client.answer(b"x") == ok(b"x", b"connection: close\r\n")
    assert client.transport.closing


def test_an_idle_connection_is_closed_when_asked_to(client: Downstream) -> None:
    client.connection.close_idle()
    assert client.transport.closing


def test_one_whose_answer_has_begun_closes_after_it(client: Downstream) -> None:
    client.say(GET)
    client.connection.send_head(ResponseHead(200, [(b"content-length", b"1")], 1), False)
    client.connection.close_idle()
    client.connection.send_data(b"x", True)
    client.connection.flush()
    assert client.transport.closing


def test_a_request_of_which_a_part_was_read_is_still_answered(client: Downstream) -> None:
    client.say(GET[:20])
    client.connection.close_idle()
    assert not client.transport.closing
    client.say(GET[20:])
    assert client.answer(b"x") == ok(b"x", b"connection: close\r\n")
    assert client.transport.closing


@pytest.mark.parametrize("size", [0, 20_000])
def test_a_head_for_which_there_is_no_memory_is_given_up(client: Downstream, size: int) -> None:
    client.runtime.growth.short = True
    # A whole request is for who admits requests
    assert client.say(get(b"/", b"X: " + b"x" * 20_000 + b"\r\n")) == b""
    client.answer(b"abc")
    # A part of one is not waited for
    answer = client.say(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * size)
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"x-sidecar-error: overloaded\r\n" in answer
    assert client.runtime.refusals == [503]
    assert client.transport.eof
    # And what follows is not heard
    assert client.say(b"\r\n\r\n" + GET) == b""
    assert len(client.begun) == 1


def test_a_small_part_of_a_head_is_given_up_when_it_is_asked_for(client: Downstream) -> None:
    client.do(client.connection.give_up_head)
    client.say(POST)
    client.do(client.connection.give_up_head)  # a body is none
    client.say(b"abc")
    assert client.answer() == ok(b"")
    client.say(b"GET / HTTP/1.1\r\n")
    assert client.do(client.connection.give_up_head).startswith(b"HTTP/1.1 503")
    assert client.do(client.connection.give_up_head) == b""
