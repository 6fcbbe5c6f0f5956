"""sidecar.wire.sniff: which protocol a connection speaks."""

from typing import Any

import pytest

from sidecar.wire.sniff import Sniffer, kind_of
from tests.wire.h1_peers import FakeTransport
from tests.wire.h2_peers import FakeRuntime

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", None),
        (b"P", None),
        (b"PR", None),
        (b"PRI", "http2"),
        (PREFACE, "http2"),
        (b"PO", "http1"),
        (b"PROPFIND", "http1"),
        (b"G", "http1"),
        (b"\x16", None),
        (b"\x16\x03", "tls"),
        (b"\x16\x04", "http1"),
        (b"\r\n", "http1"),
        (b"\x00", "http1"),
    ],
)
def test_the_first_bytes_tell(data: bytes, kind: str | None) -> None:
    assert kind_of(data) == kind


class Successor:
    def __init__(self) -> None:
        self.transport: Any = None
        self.data = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data


class Sniffed:
    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.transport = FakeTransport()
        self.chosen: list[str] = []
        self.closed: list[Any] = []
        self.successor = Successor()
        self.sniffer = Sniffer(self.runtime, self.choose, self.closed.append, 60.0)  # type: ignore[arg-type]
        self.sniffer.connection_made(self.transport)

    def choose(self, kind: str) -> Any:
        self.chosen.append(kind)
        return self.successor


@pytest.fixture
def sniffed() -> Sniffed:
    return Sniffed()


@pytest.mark.parametrize(("data", "kind"), [(PREFACE, "http2"), (b"PUT / HTTP/1.1\r\n", "http1")])
@pytest.mark.parametrize("step", [1, 100])
def test_the_successor_gets_every_byte(sniffed: Sniffed, data: bytes, kind: str, step: int) -> None:
    for i in range(0, len(data), step):
        target: Any = sniffed.transport.protocol or sniffed.sniffer
        target.data_received(data[i : i + step])
    assert sniffed.chosen == [kind]
    assert sniffed.successor.data == data
    assert sniffed.successor.transport is sniffed.transport
    assert sniffed.closed == [sniffed.sniffer]
    assert not sniffed.runtime.timers.waiting


@pytest.mark.parametrize(("said", "slow"), [(b"", []), (b"P", ["header"])])
def test_one_that_says_too_little_is_closed(sniffed: Sniffed, said: bytes, slow: list[str]) -> None:
    if said:
        sniffed.sniffer.data_received(said)
    sniffed.runtime.timers.advance(61)
    assert sniffed.transport.aborted
    assert sniffed.runtime.slow == slow


def test_one_that_leaves_is_forgotten(sniffed: Sniffed) -> None:
    sniffed.sniffer.connection_lost(None)
    assert sniffed.closed == [sniffed.sniffer]
    assert not sniffed.runtime.timers.waiting


def test_a_drain_leaves_it_open_for_the_request_that_may_be_under_way(sniffed: Sniffed) -> None:
    sniffed.sniffer.drain()
    assert sniffed.sniffer.open_streams == 0
    assert not sniffed.transport.closing
    sniffed.sniffer.abort()
    assert sniffed.transport.aborted


def test_a_bug_of_the_successor_leaves_the_turn(sniffed: Sniffed) -> None:
    sniffed.successor.connection_made = lambda transport: 1 / 0  # type: ignore[assignment, method-assign]
    with pytest.raises(ZeroDivisionError):
        sniffed.sniffer.data_received(b"GET")
    depth = sniffed.runtime.turn.depth
    assert depth == 0
