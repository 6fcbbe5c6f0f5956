"""HTTP/1.1 clients that take their time, second by second: who is cut off, and who lives."""

from typing import Any

import pytest

from sidecar.model.head import ResponseHead
from sidecar.model.outcome import Failure
from sidecar.policy.pace import Pace
from tests.wire.h1_peers import Downstream

PACE = Pace()
# What is too slow ends at most half as late again as it may, and one look late.
HEADER_BY = PACE.header * 1.5 + 0.1
BODY_BY = PACE.body + 2 * PACE.look + 0.1
WRITE_BY = PACE.write + 2 * PACE.look + 0.1

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class Client(Downstream):
    """A client and its clock. `sent` and `taken` are what its exchange counts."""

    def advance(self, seconds: float) -> bytes:
        self.runtime.timers.advance(seconds)
        return self.transport.take()

    def count(self, **counts: int) -> None:
        for name, value in counts.items():
            setattr(self.heard, name, value)

    @property
    def slow(self) -> list[str]:
        return self.runtime.slow


@pytest.fixture
def client() -> Client:
    return Client()


# Header: slowloris.


@pytest.mark.parametrize("served", [False, True], ids=["first", "kept"])
def test_a_head_that_dribbles_is_answered_408(client: Client, served: bool) -> None:
    if served:
        client.say(GET)
        client.answer(b"ok")
    client.say(b"GET / HTTP/1.1\r\nhost: a\r\n")
    said = b""
    for second in range(60):
        said += client.advance(1.0)
        if said:
            break
        client.say(b"x-%d: 1\r\n" % second)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"x-sidecar-error: too_slow" in said
    assert PACE.header <= second + 1 <= HEADER_BY + 1
    assert client.transport.eof
    assert client.slow == ["header"]
    client.advance(3.0)
    assert client.transport.aborted, "who does not close is cut"
    assert len(client.begun) == int(served)


def test_a_head_in_time_however_many_pieces_it_has(client: Client) -> None:
    for at in range(0, len(GET), 4):
        client.say(GET[at : at + 4])
        client.advance(1.0)
    assert client.paths == [b"/"]
    assert client.slow == []


# Nothing at all.


def test_who_says_nothing_is_closed_after_a_while_and_without_a_word(client: Client) -> None:
    client.advance(PACE.first - 1)
    assert not client.transport.closing
    assert client.advance(2.0) == b""
    assert client.transport.closing


def test_an_idle_connection_lives_for_the_idle_time(client: Client) -> None:
    for _ in range(3):
        client.say(GET)
        client.answer(b"ok")
        client.advance(PACE.idle - 1)
        assert not client.transport.closing
    client.advance(2.0)
    assert client.transport.closing
    assert client.slow == []


# Body: R-U-Dead-Yet.


POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n"


def test_a_body_that_dribbles_is_answered_408_and_its_exchange_ends(client: Client) -> None:
    client.say(POST)
    said = b""
    for second in range(60):
        client.say(b"x")
        client.count(bytes_in=second + 1)
        said += client.advance(1.0)
        if said:
            break
    assert said.startswith(b"HTTP/1.1 408 ")
    assert PACE.body <= second + 1 <= BODY_BY + 1
    assert client.slow == ["body"]
    assert client.heard.failure is Failure.SLOW_REQUEST


def test_the_rest_of_an_answered_body_is_waited_for_no_longer_than_for_a_head(client: Client) -> None:
    client.say(POST[:-9] + b"1000\r\n\r\n")
    client.count(bytes_in=0)
    client.answer(b"early")
    for second in range(60):  # noqa: B007 - it is used below
        client.say(b"x")
        assert client.advance(1.0) == b"", "one request has one answer"
        if client.transport.closing:
            break
    assert PACE.header <= second + 1 <= HEADER_BY + 1
    assert client.slow == []


@pytest.mark.parametrize("chunk", [PACE.min_rate, 10 * PACE.min_rate])
def test_a_slow_body_at_the_least_rate_lives(client: Client, chunk: int) -> None:
    client.say(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n")
    for second in range(300):
        client.say(b"x" * chunk)
        client.count(bytes_in=(second + 1) * chunk)
        client.advance(1.0)
    assert client.slow == []


def test_a_body_that_the_endpoint_does_not_take_is_not_the_clients_fault(client: Client) -> None:
    client.say(POST + b"x" * 100)
    client.count(bytes_in=100)
    client.connection.pause()
    client.advance(200.0)
    assert client.slow == []


def test_who_waits_for_a_100_is_waited_for(client: Client) -> None:
    client.say(POST[:-2] + b"expect: 100-continue\r\n\r\n")
    client.count(bytes_in=0)
    client.advance(100.0)
    assert client.slow == []


def test_a_conversation_may_fall_silent(client: Client) -> None:
    client.say(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
    client.count(bytes_in=5)
    client.do(lambda: client.connection.send_head(ResponseHead(200, [], None), False))
    client.advance(1000.0)
    assert client.slow == []


# Reading slowly.


def stream(client: Client, waiting: int, sent: int = 1 << 20) -> None:
    """An answer of which so many bytes wait to be taken."""
    client.say(GET)
    client.do(lambda: client.connection.send_head(ResponseHead(200, [], sent), False))
    client.count(bytes_out=sent)
    client.transport.unsent = waiting


def test_an_answer_that_is_read_byte_by_byte_ends(client: Client) -> None:
    stream(client, 500_000)
    for second in range(200):  # noqa: B007 - it is used below
        client.advance(1.0)
        if client.transport.aborted:
            break
        client.transport.unsent -= 1
    assert PACE.write <= second + 1 <= WRITE_BY + 1
    assert client.slow == ["write"]
    assert client.heard.failure is Failure.SLOW_REQUEST


def test_an_answer_that_nobody_reads_any_more_ends_though_it_is_complete(client: Client) -> None:
    client.say(GET[:-2] + b"connection: close\r\n\r\n")
    client.answer(b"ok")
    client.transport.unsent = 100_000
    assert client.transport.closing
    client.advance(WRITE_BY)
    assert client.transport.aborted


def test_a_slow_reader_at_the_least_rate_lives(client: Client) -> None:
    stream(client, 500_000)
    for _ in range(300):
        client.advance(1.0)
        client.transport.unsent -= PACE.min_rate
    assert client.slow == []


def test_an_event_stream_and_a_long_poll_may_be_silent_for_ever(client: Client) -> None:
    stream(client, 0)
    client.advance(5000.0)
    assert not client.transport.closing
    other = Client()
    other.say(GET)
    other.count(bytes_in=0, bytes_out=0)
    other.advance(5000.0)
    assert not other.transport.closing
    assert client.slow + other.slow == []


def test_a_websocket_may_be_silent_for_ever(client: Client) -> None:
    client.say(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
    upgraded: Any = ResponseHead(101, [(b"upgrade", b"websocket")], None)
    client.do(lambda: client.connection.send_head(upgraded, False))
    client.count(bytes_in=0, bytes_out=0)
    client.advance(5000.0)
    assert not client.transport.closing


# The settings.


def test_zero_is_no_bound() -> None:
    client = Client(Pace(first=0.0, header=0.0, body=0.0, idle=0.0, write=0.0))
    client.say(b"GET / HTT")
    client.advance(10_000.0)
    client.say(b"P/1.1\r\nhost: a\r\n\r\n")
    assert client.paths == [b"/"]
    client.answer(b"ok")
    client.advance(10_000.0)
    assert not client.transport.closing


@pytest.mark.parametrize(
    ("pace", "look"),
    [(Pace(), 5.0), (Pace(header=2.0), 1.0), (Pace(header=0.0), 10.0), (Pace(header=0, body=0, write=0), 150.0)],
)
def test_looks_are_frequent_enough_for_the_shortest_bound(pace: Pace, look: float) -> None:
    assert pace.look == look
