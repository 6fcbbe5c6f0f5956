"""What somebody is told for whom there is no place."""

from typing import Any, cast

import pytest

from sidecar.policy.places import Places
from sidecar.wire.refusal import Refusal
from tests.wire.h1_peers import FakeTransport
from tests.wire.h2_peers import FakeRuntime

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Refused:
    def __init__(self, wordless: bool = False, reason: str = "ceiling") -> None:
        self.runtime = cast(Any, FakeRuntime())
        self.runtime.places = self.places = Places()
        self.transport = FakeTransport()
        self.refusal = Refusal(self.runtime, reason, wordless)
        self.refusal.connection_made(self.transport)


def test_http1_gets_a_503_and_the_end() -> None:
    refused = Refused()
    refused.refusal.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    said = refused.transport.take()
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"x-sidecar-error: overloaded" in head
    assert b"connection: close" in head
    assert b"content-length: %d" % len(body) in head
    assert refused.transport.closing
    assert not refused.transport.aborted


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("ceiling", b"overload.max_connections or the limit on open files"),
        ("listener", b"max_connections of the listener"),
        ("pressure", b'the sidecar is short of resources"'),
    ],
)
def test_the_answer_says_which_limit_it_was(reason: str, said: bytes) -> None:
    refused = Refused(reason=reason)
    refused.refusal.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert said in refused.transport.take()


def test_head_gets_no_body() -> None:
    refused = Refused()
    refused.refusal.data_received(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert refused.transport.take().endswith(b"\r\n\r\n")


def test_what_still_comes_is_dropped_for_a_moment() -> None:
    refused = Refused()
    refused.refusal.data_received(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc")
    assert refused.transport.eof
    assert not refused.transport.closing, "a close now would destroy the answer"
    for _ in range(3):
        refused.refusal.data_received(b"x" * 10)
    refused.runtime.timers.advance(0.3)
    assert refused.transport.aborted


@pytest.mark.parametrize("data", [PREFACE, b"PRI", b"\x16\x03\x01"])
def test_what_is_no_http1_is_closed_without_a_word(data: bytes) -> None:
    refused = Refused()
    refused.refusal.data_received(data)
    assert refused.transport.aborted
    assert refused.transport.take() == b""


def test_a_tls_client_is_closed_before_its_handshake() -> None:
    assert Refused(wordless=True).transport.aborted


def test_who_says_nothing_has_a_second() -> None:
    refused = Refused()
    refused.runtime.timers.advance(0.9)
    assert not refused.transport.aborted
    refused.runtime.timers.advance(0.2)
    assert refused.transport.aborted


def test_it_is_counted_while_it_lasts_and_for_ever() -> None:
    refused = Refused()
    assert (refused.places.refusals, refused.places.refused["ceiling"]) == (1, 1)
    refused.refusal.connection_lost(None)
    assert (refused.places.refusals, refused.places.refused["ceiling"]) == (0, 1)
    assert refused.runtime.timers.waiting == {}


def test_somebody_who_sends_without_end_is_cut() -> None:
    refused = Refused()
    for _ in range(20):
        refused.refusal.data_received(b"x" * 65536)
    assert refused.transport.aborted
