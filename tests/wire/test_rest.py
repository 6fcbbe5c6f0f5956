"""sidecar.wire.rest: slices by time, one queue for all, and who goes first."""

from typing import Any

import pytest

from sidecar.wire.rest import SLICE, Rest
from sidecar.wire.turn import FEW, Turn
from tests.support.clock import FakeClock
from tests.wire.h2_peers import Busy, FakeLoop


class Work:
    """So many steps, each of which takes so long."""

    def __init__(self, clock: FakeClock, name: str, number: int, seconds: float, log: list[str]) -> None:
        self.steps = 32
        self._clock = clock
        self._name = name
        self._left = number
        self._seconds = seconds
        self._log = log

    def step(self) -> bool:
        self._left -= 1
        self._clock.advance(self._seconds)
        self._log.append(self._name)
        return self._left > 0


class World:
    """A loop of which a test runs one iteration after the other."""

    def __init__(self) -> None:
        loop: Any = FakeLoop()
        self.loop = loop
        self.clock = FakeClock()
        self.turn = Turn(loop, self.clock)
        self.rest: Rest = self.turn.rest
        self.log: list[str] = []

    def work(self, name: str, number: int, seconds: float) -> Work:
        return Work(self.clock, name, number, seconds, self.log)

    def iterate(self) -> list[str]:
        """What is ready; what of the work was done."""
        self.log.clear()
        ready, self.loop.soon[:] = [*self.loop.soon], []
        for callback in ready:
            callback()
        return [*self.log]

    def somebody(self) -> None:
        """Somebody else has a turn."""
        self.clock.advance(0.000_02)
        self.turn.begin()
        self.turn.end()

    def slices(self) -> list[list[str]]:
        """Until nothing is left: what was done in each iteration in which something was."""
        found = []
        while self.loop.soon:
            found.append(self.iterate())
        return [one for one in found if one]


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(("each", "steps"), [(SLICE / 10, 10), (SLICE / 3, 3), (SLICE, 1), (50 * SLICE, 1)])
def test_a_slice_ends_with_its_time(world: World, each: float, steps: int) -> None:
    world.rest.add(world.work("a", 20, each * 1.001))
    assert {len(one) for one in world.slices()[:-1]} <= {steps}


def test_a_clock_that_stands_ends_none(world: World) -> None:
    world.rest.add(world.work("a", 100, 0.0))
    assert [len(one) for one in world.slices()] == [32, 32, 32, 4]


def test_many_connections_have_one_slice_together(world: World) -> None:
    for name in "abc":
        world.rest.add(world.work(name, 3, SLICE))
    assert world.slices() == [[name] for name in "abcabcabc"]


def test_what_is_done_waits_for_nobody(world: World) -> None:
    assert not world.rest.slice(world.work("a", 3, 0.0))
    assert not world.rest.waits
    assert world.loop.soon == []


def test_it_goes_on_when_nobody_else_had_a_turn(world: World) -> None:
    world.rest.add(world.work("a", 10, SLICE))
    while not world.iterate():
        pass
    world.somebody()
    assert world.iterate() == []
    assert world.iterate() == ["a"]


def test_what_a_slice_began_is_done_before_the_next(world: World) -> None:
    # Dials, and what else the event loop was asked for, lie in front of it.
    world.rest.add(world.work("a", 10, SLICE))
    while not world.iterate():
        pass
    assert world.iterate() == []
    assert world.iterate() == ["a"]


def test_it_is_put_off_a_few_times_only(world: World) -> None:
    world.rest.add(world.work("a", 5, SLICE))
    done = []
    for _ in range(100):
        world.somebody()
        done += world.iterate()
    assert done == ["a"] * 5


def test_what_is_written_in_a_slice_leaves_at_its_end(world: World) -> None:
    written = []

    class Connection:
        dirty = False

        def flush(self) -> None:
            written.append(len(world.log))

    connection = Connection()
    turn = Turn(world.loop, world.clock)
    turn.load = Busy(FEW + 1)

    class Writes:
        steps = 32

        def step(self) -> bool:
            world.log.append("step")
            if not connection.dirty:
                turn.mark(connection)
            return False

    turn.rest.add(Writes())
    while not written:
        world.iterate()
    assert written == [1]
    assert world.loop.soon == []
