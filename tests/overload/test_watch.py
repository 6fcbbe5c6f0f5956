"""What is watched, and what is done about it. Lag, memory and files are the test's."""

from collections.abc import Iterable
from typing import Any

import pytest

from sidecar.model.readings import RESOURCES
from sidecar.overload.memory import Group
from sidecar.overload.watch import Sources, Watch
from sidecar.policy.places import Ceiling
from sidecar.policy.pressure import HOLD, REFUSE, SHED, WELL, OverloadPolicy
from sidecar.proxy.runtime import Runtime
from sidecar.proxy.snapshot import Snapshot
from tests.proxy.fakes import FakeTimers, FakeTurn
from tests.support.clock import FakeClock

MIB = 1 << 20


class FakeGroup(Group):
    """A control group whose use the test says."""

    now = 0

    def in_use(self) -> int:
        return type(self).now


class Connection:
    def __init__(self, since: float, name: str, closed: list[str]) -> None:
        self.since = since
        self.name = name
        self.closed = closed

    def close_idle(self) -> None:
        self.closed.append(self.name)


class Process:
    """A process that is short of what the test says."""

    def __init__(self, limit: int = 1024, open_files: int = 20) -> None:
        self.clock = FakeClock()
        turn = FakeTurn(self.clock)
        self.runtime = Runtime(turn, FakeTimers(self.clock), self.clock, Any, Snapshot())  # type: ignore[arg-type]
        self.own = 100 * MIB
        self.limit = limit
        self.files = open_files
        self.group: Group | None = None
        self.given_back = self.heads_given_up = 0
        self.events: list[dict[str, Any]] = []
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.closed: list[str] = []
        self.connections: list[Connection] = []
        sources = Sources(
            resident=lambda: self.own,
            group=lambda: self.group,
            give_back=self._give_back,
            files_limit=lambda: self.limit,
            open_files=lambda: self.files,
            cheap=lambda: True,
        )
        self.watch = Watch(self.runtime, lambda: [self], lambda kind, fields: self.events.append(fields), self, sources)
        self.watch.configure(OverloadPolicy())

    # A listener, and a log.

    def idle_connections(self) -> Iterable[tuple[float, Any]]:
        return [(each.since, each) for each in self.connections]

    def give_up_heads(self) -> None:
        self.heads_given_up += 1

    def info(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    warning = info

    def _give_back(self) -> None:
        self.given_back += 1

    def look(self, lag: float = 0.0, times: int = 1) -> int:
        for _ in range(times):
            self.clock.advance(0.25)
            self.watch.look(lag)
        return self.runtime.pressure


@pytest.mark.parametrize(("lag", "level"), [(0.05, WELL), (0.15, HOLD), (0.3, SHED), (1.5, REFUSE)])
def test_a_lag_that_stands_is_a_step(lag: float, level: int) -> None:
    process = Process()
    assert process.look(lag, times=3) == WELL
    assert process.look(lag) == level
    assert process.runtime.places.refusing == (level == REFUSE)
    assert process.runtime.readings.lag == lag


def test_each_step_is_one_event_however_long_it_lasts() -> None:
    process = Process()
    process.look(0.3, times=100)
    assert [(event["before"], event["step"], event["resource"]) for event in process.events] == [
        ("well", "shed", "lag")
    ]
    process.look(0.0, times=100)
    assert [event["step"] for event in process.events] == ["shed", "hold", "well"]
    assert {event["resource"] for event in process.events} == {"lag"}, "its end as well"


def test_memory_against_the_control_group() -> None:
    process = Process()
    process.group = FakeGroup(1000 * MIB, used=None, stat=None, reclaimable=b"")  # type: ignore[arg-type]
    process.watch.configure(OverloadPolicy(max_connections=9))
    for own, used, level in ((100, 990, HOLD + 1), (700, 750, SHED), (500, 500, SHED), (950, 950, REFUSE)):
        process.own, FakeGroup.now = own * MIB, used * MIB
        assert process.look(times=4) == level
    process.own = FakeGroup.now = 100 * MIB
    assert process.look(times=40) == WELL
    assert {event["resource"] for event in process.events} == {"memory"}


def test_memory_against_a_limit_of_our_own() -> None:
    """The limit of the configuration stands in for the control group's."""
    process = Process()
    process.watch.configure(OverloadPolicy(memory_limit=120 * MIB))
    assert process.look(times=4) == HOLD
    assert process.runtime.readings.memory_limit == 120 * MIB
    assert process.given_back == 1
    process.own = 119 * MIB
    assert process.look(times=4) == REFUSE
    assert process.runtime.places.refusing
    process.own = 10 * MIB
    assert process.look(times=40) == WELL
    assert not process.runtime.places.refusing


def test_under_memory_pressure_idle_clients_are_closed_the_longest_first() -> None:
    process = Process()
    process.watch.configure(OverloadPolicy(memory_limit=120 * MIB))
    now = process.clock()
    process.connections = [Connection(now - age, f"{age}", process.closed) for age in (5, 60, 0, 30)]
    process.look(times=4)
    assert process.closed[:2] == ["60", "30"]
    assert "0" not in process.closed[:3], "it was idle for less than a second then"
    assert process.runtime.readings.idle_closed == len(process.closed)


def test_near_the_ceiling_idle_clients_make_room() -> None:
    process = Process(limit=64)
    places = process.runtime.places
    most = places.ceiling.clients
    now = process.clock()
    process.connections = [Connection(now - 10 - number, f"{number}", process.closed) for number in range(most)]
    places.clients = int(most * 0.89)
    process.look()
    assert process.closed == []
    places.clients = most
    process.look()
    assert len(process.closed) == most - int(most * 0.8)
    assert process.closed[0] == f"{most - 1}"
    assert process.runtime.pressure == WELL, "files are no reason to refuse requests"
    assert process.runtime.readings.pressure["files"] == 1.0


def test_a_reload_under_pressure_keeps_the_step_until_it_is_calm() -> None:
    # Given a process that refuses, for want of time and of memory
    process = Process()
    process.watch.configure(OverloadPolicy(memory_limit=100 * MIB))
    process.look(5.0, times=4)
    assert process.runtime.pressure == REFUSE

    # When a reload gives it more memory, that alone lets nobody in whom the other would keep out
    process.watch.configure(OverloadPolicy(memory_limit=1000 * MIB))
    assert process.look(5.0) == REFUSE

    # And with calm it goes down as ever
    process.look(0.0, times=100)
    assert [event["step"] for event in process.events] == ["refuse", "shed", "hold", "well"]


def test_switched_off_nothing_is_limited_and_pressure_ends() -> None:
    process = Process(limit=64)
    process.watch.configure(OverloadPolicy(memory_limit=100 * MIB))
    process.look(5.0, times=4)
    process.watch.configure(None)
    assert process.runtime.pressure == WELL
    assert process.runtime.readings.pressure == dict.fromkeys(RESOURCES, 0.0)
    assert process.runtime.readings.memory_limit == 0
    assert process.runtime.places.ceiling == Ceiling()
    assert process.look(5.0, times=8) == WELL


def test_files_that_are_no_connections_lower_the_ceiling() -> None:
    process = Process(limit=256)
    before = process.runtime.places.ceiling.clients
    process.files += 8
    process.look(times=4)
    assert process.runtime.places.ceiling.clients == before, "a few are what the reserve is for"
    process.files += 60
    process.look(times=4)
    assert process.runtime.places.ceiling.clients == before - 30


def test_errors_of_accept_are_logged_seldom() -> None:
    process = Process()
    for _ in range(10_000):
        process.runtime.places.failed(OSError(24, "Too many open files"))
    warnings = [fields for event, fields in process.logged if event == "accept_failed"]
    assert len(warnings) == 1
    process.clock.advance(11)
    process.runtime.places.failed(OSError(24, "Too many open files"))
    warnings = [fields for event, fields in process.logged if event == "accept_failed"]
    assert [fields["more_like_it"] for fields in warnings] == [0, 9_999]
    assert process.runtime.places.errors["emfile"] == 10_001


def test_refusals_are_logged_seldom() -> None:
    process = Process()
    for _ in range(1000):
        process.runtime.places.refuse("ceiling")
    process.runtime.places.refuse("pressure")
    told = [fields["reason"] for event, fields in process.logged if event == "connection_refused"]
    assert told == ["ceiling", "pressure"]


def test_every_resource_has_a_reading_from_the_start() -> None:
    assert {*Process().runtime.readings.pressure} == {*RESOURCES}


def test_memory_is_looked_at_when_much_was_taken() -> None:
    """A burst takes all that there is between two looks by the clock."""
    process = Process()
    process.watch.configure(OverloadPolicy(memory_limit=200 * MIB))
    process.look(times=4)
    process.own = 190 * MIB
    process.clock.advance(0.01)
    # When much is taken, then it is seen, and what takes more is told
    assert process.runtime.growth.took(4 * MIB)
    assert (process.runtime.pressure, process.runtime.places.refusing) == (REFUSE, True)
    # And not looked at again at once, whatever is taken
    process.own = 10 * MIB
    process.clock.advance(0.001)
    assert process.runtime.growth.took(4 * MIB)
    process.look(times=40)
    assert not process.runtime.growth.took(4 * MIB)


def test_a_bug_in_looking_is_none_of_who_took() -> None:
    process = Process()
    process.watch.configure(OverloadPolicy(memory_limit=200 * MIB))
    crashes: list[BaseException] = []
    process.runtime.on_crash = crashes.append
    del process.own
    process.clock.advance(1.0)
    assert not process.runtime.growth.took(4 * MIB)
    assert [type(error) for error in crashes] == [AttributeError]


def test_growth_is_nothing_where_there_is_no_limit() -> None:
    process = Process()
    process.own = 1 << 50
    assert not process.runtime.growth.took(100 * MIB)
    process.watch.configure(OverloadPolicy(memory_limit=200 * MIB))
    process.clock.advance(1.0)
    assert process.runtime.growth.took(100 * MIB)
    process.watch.configure(None)
    assert not process.runtime.growth.took(100 * MIB)


def test_a_step_of_memory_is_left_a_little_below_where_it_begins() -> None:
    """A small process beside a small limit holds much of it when nothing is under way."""
    process = Process()
    process.watch.configure(OverloadPolicy(memory_limit=200 * MIB))
    process.own = 190 * MIB
    assert process.look(times=4) == REFUSE
    process.own = 150 * MIB  # 75 %
    assert process.look(times=40) == WELL


def test_heads_are_given_up_when_there_is_no_memory_left() -> None:
    process = Process()
    process.watch.configure(OverloadPolicy(memory_limit=200 * MIB))
    process.own = 180 * MIB
    assert process.look(times=8) == SHED
    assert process.heads_given_up == 0
    process.own = 190 * MIB
    assert process.look(times=4) == REFUSE
    assert process.heads_given_up == 4
    # And free memory is given back every second
    before = process.given_back
    process.look(times=40)
    assert process.given_back == before + 10
