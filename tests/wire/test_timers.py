"""sidecar.wire.timers: when timers fire, and in whose absence."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.timers import TICKS_PER_SECOND, Timers
from sidecar.wire.turn import Turn
from tests.support.clock import FakeClock
from tests.wire.h2_peers import FakeLoop

TICK = 1 / TICKS_PER_SECOND


class Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop(FakeLoop):
    """An event loop that has nothing but `call_later`; time is the test's."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.later: list[tuple[float, Handle, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        assert delay >= 0
        handle = Handle()
        self.later.append((self.clock() + delay, handle, callback))
        return handle

    @property
    def alarms(self) -> list[float]:
        return [when for when, handle, _ in self.later if not handle.cancelled]

    def run_until(self, end: float) -> None:
        """Call what becomes due, in order; each call takes a microsecond."""
        while due := sorted(at for at in self.alarms if at <= end):
            self.clock.advance(max(0.0, due[0] - self.clock()) + 1e-6)
            index = next(i for i, (at, handle, _) in enumerate(self.later) if at == due[0] and not handle.cancelled)
            self.later.pop(index)[2]()
        self.clock.advance(max(0.0, end - self.clock()))


class Waiting:
    """Who waits: notes when it was called, and does what it is told then."""

    def __init__(self, clock: FakeClock, then: Callable[[], Any] = lambda: None) -> None:
        self.clock = clock
        self.then = then
        self.fired: list[tuple[int, float]] = []

    def on_timer(self, token: int) -> None:
        self.fired.append((token, self.clock()))
        self.then()


class World:
    def __init__(self, start: float = 1000.003) -> None:
        self.clock = FakeClock()
        self.clock.advance(start)
        self.loop = Loop(self.clock)
        self.turn = Turn(self.loop, self.clock)  # type: ignore[arg-type]
        self.timers = Timers(self.loop, self.turn, self.clock)  # type: ignore[arg-type]

    def waiting(self, then: Callable[[], Any] = lambda: None) -> Waiting:
        return Waiting(self.clock, then)

    def run(self, seconds: float) -> None:
        self.loop.run_until(self.clock() + seconds)


@pytest.fixture
def world() -> World:
    return World()


@given(st.floats(0, 100_000), st.lists(st.floats(0, 30), min_size=1, max_size=20))
def test_never_early_and_hardly_late(start: float, delays: list[float]) -> None:
    world = World(start)
    each = [(delay, world.waiting()) for delay in delays]
    began = world.clock()
    for delay, waiting in each:
        world.timers.add(delay, waiting)
    world.run(31)
    for delay, waiting in each:
        [(_, at)] = waiting.fired
        late = 2 * TICK if delay < 1 else 0.1 + 2 * TICK
        assert began + delay <= at <= began + delay + late
    assert len(world.timers) == 0
    assert world.loop.alarms == []


def test_in_order_of_time(world: World) -> None:
    each = {delay: world.waiting() for delay in (0.3, 0.1, 2.5, 0.2, 1.5)}
    for delay, waiting in each.items():
        world.timers.add(delay, waiting)
    world.run(5)
    assert sorted(each, key=lambda delay: each[delay].fired[0][1]) == [0.1, 0.2, 0.3, 1.5, 2.5]


def test_a_cancelled_timer_does_not_fire(world: World) -> None:
    kept, gone = world.waiting(), world.waiting()
    world.timers.add(0.5, kept)
    token = world.timers.add(0.5, gone)
    world.timers.cancel(token)
    world.timers.cancel(token)
    assert len(world.timers) == 1
    world.run(1)
    assert len(kept.fired) == 1
    assert gone.fired == []
    world.timers.cancel(kept.fired[0][0])  # fired before: no error


def test_the_callback_is_told_its_token(world: World) -> None:
    one = world.waiting()
    tokens = {world.timers.add(0.5, one), world.timers.add(0.5, one), world.timers.add(0.7, one)}
    assert len(tokens) == 3
    assert 0 not in tokens
    world.run(1)
    assert {token for token, _ in one.fired} == tokens


def test_one_of_a_tick_may_cancel_the_other(world: World) -> None:
    tokens: list[int] = []

    def cancel_all() -> None:
        for token in tokens:
            world.timers.cancel(token)

    each = [world.waiting(cancel_all) for _ in range(2)]
    tokens += [world.timers.add(0.5, one) for one in each]
    world.run(1)
    assert sum(len(one.fired) for one in each) == 1


def test_a_timer_added_by_a_callback_fires_later(world: World) -> None:
    second = world.waiting()
    first = world.waiting(lambda: world.timers.add(0.0, second))
    world.timers.add(0.1, first)
    world.run(1)
    assert len(second.fired) == 1
    assert second.fired[0][1] > first.fired[0][1]


def test_an_earlier_timer_is_not_kept_waiting(world: World) -> None:
    late, early = world.waiting(), world.waiting()
    world.timers.add(5, late)
    world.timers.add(0.1, early)
    assert len(world.loop.alarms) == 1
    world.run(0.2)
    assert len(early.fired) == 1
    world.run(5)
    assert len(late.fired) == 1


def test_one_broken_callback_does_not_stop_the_clock(world: World) -> None:
    each = [world.waiting() for _ in range(3)]
    each[1].then = lambda: 1 / 0
    later = world.waiting()
    for one in each:
        world.timers.add(0.5, one)
    world.timers.add(0.6, later)
    world.run(1)
    assert [len(one.fired) for one in [*each, later]] == [1, 1, 1, 1]
    assert len(world.loop.reported) == 1


def test_callbacks_run_inside_a_turn(world: World) -> None:
    flushed: list[float] = []

    class Connection:
        dirty = False

        def flush(self) -> None:
            self.dirty = False
            flushed.append(world.clock())

    world.timers.add(0.5, world.waiting(lambda: world.turn.mark(Connection())))
    world.run(1)
    assert len(flushed) == 1
    assert world.loop.soon == []


def test_long_waits_share_ticks(world: World) -> None:
    for i in range(100):
        world.timers.add(15 + i / 1000, world.waiting())
    before = len(world.loop.later)
    world.run(20)
    assert before == 1
    assert len(world.timers) == 0


def test_nothing_fires_after_close(world: World) -> None:
    one = world.waiting()
    world.timers.add(0.5, one)
    world.timers.close()
    assert world.loop.alarms == []
    world.run(1)
    assert one.fired == []


def test_a_callback_may_close(world: World) -> None:
    other = world.waiting()
    world.timers.add(0.5, world.waiting(world.timers.close))
    world.timers.add(2, other)
    world.run(5)
    assert other.fired == []
    assert world.loop.reported == []
    assert world.loop.alarms == []
