"""Under pressure kept connections are read again only as others end."""

from typing import Any, cast

import pytest

from sidecar.wire.gate import Gate
from tests.wire.h1_peers import Downstream
from tests.wire.h2_peers import FakeRuntime

GET = b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n"


class FakeLoop:
    """Timers that fire when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def call_later(self, delay: float, call: Any) -> "FakeLoop":
        self.calls.append(call)
        return self

    def cancel(self) -> None:
        self.calls.clear()

    def pulse(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Connection:
    def __init__(self, let_go: list[int], number: int) -> None:
        self._let_go = let_go
        self._number = number

    def let_go(self) -> None:
        self._let_go.append(self._number)


class Held:
    """A gate with so many connections before it, in a process with so many requests under way."""

    def __init__(self, count: int, in_flight: int) -> None:
        self.runtime = cast(Any, FakeRuntime())
        self.runtime.pressure = 1
        self.runtime.in_flight = in_flight
        self.loop = FakeLoop()
        self.gate = Gate(self.runtime, self.loop)  # type: ignore[arg-type]
        self.let_go: list[int] = []
        for number in range(count):
            self.gate.hold(Connection(self.let_go, number))


def test_nobody_is_let_through_while_too_much_is_under_way() -> None:
    held = Held(10, in_flight=100)
    held.loop.pulse()
    assert held.let_go == []
    assert len(held.gate) == 10


def test_as_requests_end_those_that_wait_longest_go_on() -> None:
    held = Held(10, in_flight=100)
    held.runtime.in_flight = 47
    held.loop.pulse()
    assert held.let_go == [0, 1, 2]


def test_nobody_waits_for_more_than_a_second_whatever_is_under_way() -> None:
    held = Held(10, in_flight=5000)
    held.runtime.clock.advance(0.9)
    held.loop.pulse()
    assert held.let_go == []
    held.runtime.clock.advance(0.1)
    held.loop.pulse()
    assert held.let_go == [*range(10)]
    assert held.loop.calls == [], "nobody is left to wait for"


def test_when_the_pressure_is_over_all_go_on_in_parts() -> None:
    held = Held(100, in_flight=1000)
    held.runtime.pressure = 0
    held.loop.pulse()
    assert len(held.let_go) == 64
    held.loop.pulse()
    assert held.let_go == [*range(100)]


@pytest.mark.parametrize("pressure", [0, 1])
def test_a_connection_stops_reading_after_its_answer_only_under_pressure(pressure: int) -> None:
    client = Downstream()
    loop = FakeLoop()
    runtime = cast(Any, client.runtime)
    runtime.pressure, runtime.in_flight = pressure, 1
    runtime.gate = Gate(runtime, loop)  # type: ignore[arg-type]
    client.say(GET % 1)
    assert client.transport.reading, "an answer that is owed is not waited with"
    client.answer(b"ok")
    assert client.transport.reading == (not pressure)
    loop.pulse()
    assert client.transport.reading
    client.say(GET % 2)
    client.answer(b"ok")
    assert client.paths == [b"/1", b"/2"]


def test_a_connection_that_ends_while_it_waits_is_forgotten() -> None:
    client = Downstream()
    loop = FakeLoop()
    runtime = cast(Any, client.runtime)
    runtime.pressure, runtime.in_flight = 1, 1
    runtime.gate = Gate(runtime, loop)  # type: ignore[arg-type]
    client.say(GET % 1)
    client.answer(b"ok")
    client.lose()
    loop.pulse()
    assert len(runtime.gate) == 0
