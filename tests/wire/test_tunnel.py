"""sidecar.wire.tunnel: raw bytes both ways, half-closes and breaks."""

from typing import Any

import pytest

from sidecar.model.head import RequestHead, ResponseHead
from sidecar.model.outcome import Failure
from sidecar.wire.tunnel import TunnelClientConnection, TunnelServerConnection
from tests.wire.h1_peers import FakeTransport
from tests.wire.h2_peers import FakeRuntime, Heard

CONNECT = RequestHead(b"CONNECT", b"", b"b:443", [])


class Side:
    """One of our connections, the peer of which is the test."""

    def __init__(self, kind: str) -> None:
        self.runtime = FakeRuntime()
        self.transport = FakeTransport()
        self.closed: list[Any] = []
        self.heard = Heard()
        self.stream: Any
        if kind == "client":
            self.stream = TunnelClientConnection(self.runtime, self)  # type: ignore[arg-type]
            self.stream.connection_made(self.transport)
            self.stream.open(self.heard)
        else:
            self.stream = TunnelServerConnection(self.runtime, self.closed.append, "1.2.3.4:5")  # type: ignore[arg-type]
            self.stream.receiver = self.heard

    def on_closed(self, connection: Any) -> None:
        self.closed.append(connection)

    def do(self, action: Any) -> bytes:
        self.runtime.turn.begin()
        action()
        self.runtime.turn.end()
        return self.transport.take()

    def send(self, data: bytes, end: bool = False) -> bytes:
        return self.do(lambda: self.stream.send_data(data, end))


@pytest.fixture(params=["client", "server"])
def side(request: pytest.FixtureRequest) -> Side:
    made = Side(request.param)
    if request.param == "server":
        made.stream.connection_made(made.transport)
    return made


def test_bytes_go_both_ways(side: Side) -> None:
    side.stream.data_received(b"abc")
    assert side.heard.body == b"abc"
    assert side.send(b"def") == b"def"


def test_our_end_first(side: Side) -> None:
    assert side.send(b"last", True) == b"last"
    assert side.transport.eof
    side.stream.data_received(b"more")
    assert side.heard.body == b"more"
    assert not side.stream.eof_received()
    assert side.heard.ended
    side.stream.connection_lost(None)
    assert side.heard.failure is None
    assert side.closed == [side.stream]


def test_the_peers_end_first(side: Side) -> None:
    assert side.stream.eof_received()
    assert side.heard.ended
    assert side.send(b"more") == b"more"
    assert not side.transport.closing
    assert side.send(b"", True) == b""
    assert side.transport.closing
    assert not side.transport.aborted
    side.stream.connection_lost(None)
    assert side.heard.failure is None


@pytest.mark.parametrize("half_closed", [True, False])
def test_a_peer_that_goes_away(side: Side, half_closed: bool) -> None:
    if half_closed:
        side.stream.eof_received()
    side.stream.connection_lost(ConnectionResetError())
    cancelled = isinstance(side.stream, TunnelServerConnection)
    assert side.heard.failure is (Failure.CANCELLED if cancelled else Failure.RESET)
    assert side.closed == [side.stream]


def test_a_break_is_passed_on_as_a_break(side: Side) -> None:
    side.do(lambda: side.stream.reset(Failure.RESET))
    assert side.transport.socket.reset_on_close
    assert side.transport.aborted
    assert side.send(b"late") == b""
    side.stream.connection_lost(None)
    assert side.heard.log == []


def test_back_pressure(side: Side) -> None:
    said: list[bool] = []
    side.stream.pause_writing()
    side.do(lambda: said.append(side.stream.send_data(b"a", False)))
    side.stream.resume_writing()
    side.do(lambda: said.append(side.stream.send_data(b"b", False)))
    assert said == [False, True]
    assert side.heard.log == [("full",), ("writable",)]
    side.stream.pause()
    assert not side.transport.reading
    side.stream.resume()
    assert side.transport.reading


def test_trailers_are_an_end(side: Side) -> None:
    side.do(lambda: side.stream.send_trailers([(b"x", b"y")]))
    assert side.transport.eof


def test_that_there_is_a_connection_is_the_answer() -> None:
    side = Side("client")

    def ask() -> None:
        side.stream.send_head(CONNECT, False)
        assert side.heard.log == []  # not before the call that asked returns

    assert side.do(ask) == b""
    assert side.heard.log == [("head", 200, False)]


def test_a_client_that_was_told_200_gets_no_second_answer() -> None:
    side = Side("server")
    side.stream.connection_made(side.transport)

    def refuse() -> None:
        side.stream.send_head(ResponseHead(503, [], 4), False)
        side.stream.send_data(b"body", True)

    assert side.do(refuse) == b""
    assert side.transport.aborted


def test_one_that_is_refused_before_its_transport_is_there() -> None:
    side = Side("server")
    side.do(lambda: side.stream.send_head(ResponseHead(503, [], 0), True))
    side.stream.connection_made(side.transport)
    assert side.transport.aborted
    side.stream.data_received(b"late")
    side.stream.connection_lost(None)
    assert side.closed == [side.stream]


def test_a_drain_does_not_end_a_tunnel() -> None:
    side = Side("server")
    side.stream.connection_made(side.transport)
    side.stream.drain()
    assert side.stream.open_streams == 1
    assert not side.transport.closing
    side.stream.abort()
    assert side.transport.aborted


def test_a_client_that_does_not_read_is_cut_off_though_the_tunnel_has_ended() -> None:
    side = Side("server")
    side.stream.connection_made(side.transport)
    side.send(b"much")
    side.transport.unsent = 100_000
    side.runtime.timers.advance(60)
    assert not side.transport.aborted
    side.runtime.timers.advance(15)
    assert side.transport.aborted
    assert side.runtime.slow == ["write"]


def test_a_silent_tunnel_lives_and_leaves_no_timer_behind() -> None:
    side = Side("server")
    side.stream.connection_made(side.transport)
    side.runtime.timers.advance(5000)
    assert not side.transport.closing
    side.stream.connection_lost(None)
    assert side.runtime.timers.waiting == {}
