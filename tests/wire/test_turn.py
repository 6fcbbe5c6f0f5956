"""sidecar.wire.turn: who is flushed, when, and how often."""

from typing import Any

import pytest

from sidecar.wire.turn import FEW, Turn
from tests.support.clock import FakeClock
from tests.wire.h2_peers import Busy, FakeLoop


class Connection:
    """Marks others while it flushes, as often as it is told to."""

    def __init__(self, turn: Turn, name: str, log: list[str], then: "list[Connection] | None" = None) -> None:
        self.dirty = False
        self._turn = turn
        self._name = name
        self._log = log
        self._then = then or []

    def say(self) -> None:
        if not self.dirty:
            self._turn.mark(self)

    def flush(self) -> None:
        self._log.append(self._name)
        for other in self._then:
            other.say()
        self._then = []

    def on_turn_end(self) -> None:
        self._log.append(f"end of {self._name}")
        self.say()


class Broken(Connection):
    def flush(self) -> None:
        raise RuntimeError("flush")

    def on_turn_end(self) -> None:
        raise RuntimeError("turn end")


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def turn(loop: Any, clock: FakeClock) -> Turn:
    return Turn(loop, clock)


def test_a_connection_is_flushed_once_at_the_end(turn: Turn) -> None:
    log: list[str] = []
    one = Connection(turn, "one", log)
    turn.begin()
    one.say()
    one.say()
    assert log == []
    turn.end()
    assert log == ["one"]
    assert not one.dirty


def test_in_the_order_in_which_they_spoke(turn: Turn) -> None:
    log: list[str] = []
    turn.begin()
    for name in ("b", "a", "c"):
        Connection(turn, name, log).say()
    turn.end()
    assert log == ["b", "a", "c"]


def test_before_all_others_where_it_is_asked_for(turn: Turn) -> None:
    log: list[str] = []
    first, second = Connection(turn, "first", log), Connection(turn, "second", log)
    turn.begin()
    first.say()
    turn.mark_first(second)
    turn.end()
    assert log == ["second", "first"]


def test_what_a_flush_makes_dirty_is_flushed_in_the_same_turn(turn: Turn, loop: FakeLoop) -> None:
    log: list[str] = []
    one = Connection(turn, "one", log)
    two = Connection(turn, "two", log, [one])
    one._then = [two, one]
    turn.begin()
    one.say()
    turn.end()
    assert log == ["one", "two", "one"]
    assert loop.soon == []


def test_a_nested_turn_does_not_flush(turn: Turn) -> None:
    log: list[str] = []
    turn.begin()
    turn.begin()
    Connection(turn, "one", log).say()
    turn.end()
    assert log == []
    turn.end()
    assert log == ["one"]


def test_outside_a_turn_one_is_scheduled_once(turn: Turn, loop: FakeLoop) -> None:
    log: list[str] = []
    Connection(turn, "one", log).say()
    Connection(turn, "two", log).say()
    assert log == []
    assert len(loop.soon) == 1
    loop.run()
    assert log == ["one", "two"]
    Connection(turn, "three", log).say()
    loop.run()
    assert log == ["one", "two", "three"]


def test_a_turn_takes_what_was_marked_before_it(turn: Turn, loop: FakeLoop) -> None:
    log: list[str] = []
    Connection(turn, "one", log).say()
    turn.begin()
    turn.end()
    assert log == ["one"]
    loop.run()
    assert log == ["one"]


def test_the_end_is_told_before_anything_is_written(turn: Turn) -> None:
    log: list[str] = []
    one, two = Connection(turn, "one", log), Connection(turn, "two", log)
    turn.begin()
    one.say()
    turn.at_end(two)
    turn.end()
    assert log == ["end of two", "one", "two"]
    turn.begin()
    turn.end()
    assert log == ["end of two", "one", "two"]


def test_the_end_is_told_outside_a_turn_as_well(turn: Turn, loop: FakeLoop) -> None:
    log: list[str] = []
    turn.at_end(Connection(turn, "one", log))
    loop.run()
    assert log == ["end of one", "one"]


def test_one_that_fails_does_not_lose_the_others(turn: Turn, loop: FakeLoop) -> None:
    log: list[str] = []
    broken = Broken(turn, "broken", log)
    turn.begin()
    broken.say()
    turn.at_end(broken)
    Connection(turn, "one", log).say()
    turn.end()
    assert log == ["one"]
    assert [str(report["exception"]) for report in loop.reported] == ["turn end", "flush"]
    turn.begin()
    Connection(turn, "two", log).say()
    turn.end()
    assert log == ["one", "two"]


class Stubborn(Broken):
    """Says something about its bug, which meets it again."""

    aborted = 0

    def on_crash(self, error: Exception) -> None:
        self._log.append(str(error))
        self.say()

    def abort(self) -> None:
        self.aborted += 1


@pytest.mark.parametrize("bulky", [False, True])
def test_who_cannot_be_flushed_is_given_up(turn: Turn, loop: FakeLoop, bulky: bool) -> None:
    log: list[str] = []
    stubborn, other = Stubborn(turn, "stubborn", log), Connection(turn, "other", log)
    turn.begin()
    turn.bulky = bulky
    stubborn.say()
    other.say()
    turn.end()
    # It was tried twice, and others had their turn
    assert sorted(log) == ["flush", "flush", "other"]
    assert stubborn.aborted == 1
    # And it is not asked any more
    turn.begin()
    stubborn.say()
    turn.end()
    assert sorted(log) == ["flush", "flush", "other"]
    loop.run()
    # Nor does it spoil what comes later
    second = Stubborn(turn, "second", log)
    turn.begin()
    second.say()
    turn.end()
    assert second.aborted == 1


def test_now_is_the_time_at_which_the_outermost_turn_began(turn: Turn, clock: FakeClock) -> None:
    clock.advance(1)
    turn.begin()
    began = turn.now
    assert began == clock()
    clock.advance(1)
    turn.begin()
    assert turn.now == began
    turn.end()
    turn.end()
    turn.begin()
    assert turn.now == clock()
    turn.end()


def say_in_a_turn(turn: Turn, one: Connection, bulky: bool = False) -> None:
    turn.begin()
    one.say()
    turn.bulky = bulky
    turn.end()


def loaded(loop: Any, clock: FakeClock, in_flight: int) -> Turn:
    turn = Turn(loop, clock)
    turn.load = Busy(in_flight)
    return turn


def test_of_few_requests_the_first_is_written_at_once_and_what_was_ready_with_it_together(
    loop: Any, clock: FakeClock
) -> None:
    turn, log = loaded(loop, clock, FEW), list[str]()
    endpoint = Connection(turn, "endpoint", log)
    for _ in range(3):
        say_in_a_turn(turn, endpoint)
    assert log == ["endpoint"]
    loop.run()
    assert log == ["endpoint", "endpoint"]
    say_in_a_turn(turn, endpoint)  # the loop had nothing left: this is a first one again
    assert log == ["endpoint"] * 3


def test_many_requests_are_all_written_together(loop: Any, clock: FakeClock) -> None:
    turn, log = loaded(loop, clock, FEW + 1), list[str]()
    endpoint = Connection(turn, "endpoint", log)
    for _ in range(3):
        say_in_a_turn(turn, endpoint)
    assert log == []
    loop.run()
    assert log == ["endpoint"]


def test_a_large_read_is_written_at_the_end_of_its_own_turn(loop: Any, clock: FakeClock) -> None:
    turn, log = loaded(loop, clock, FEW + 1), list[str]()
    say_in_a_turn(turn, Connection(turn, "small", log))
    assert log == []
    say_in_a_turn(turn, Connection(turn, "large", log), bulky=True)
    assert log == ["small", "large"]
    say_in_a_turn(turn, Connection(turn, "small again", log))
    assert log == ["small", "large"]
    loop.run()
    assert log == ["small", "large", "small again"]
