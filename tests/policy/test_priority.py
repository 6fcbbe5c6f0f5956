"""What is less important goes first, and nobody else notices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.priority import CRITICAL, DEFAULT, HEADER, SHEDDABLE, PriorityLimit, priority_of, refuses

NAME = HEADER.encode()


@pytest.mark.parametrize(
    ("value", "priority"),
    [
        (b"critical", CRITICAL),
        (b"default", DEFAULT),
        (b"sheddable", SHEDDABLE),
        (b"Sheddable", SHEDDABLE),
        (b" critical ", CRITICAL),
    ],
)
def test_a_request_says_its_priority(value: bytes, priority: int) -> None:
    assert priority_of([(b"a", b"b"), (NAME, value)], NAME, DEFAULT) == priority


@pytest.mark.parametrize("value", [b"", b"1", b"urgent", b"critical,sheddable", b"\xff", b"critical;q=1"])
@pytest.mark.parametrize("otherwise", [DEFAULT, SHEDDABLE])
def test_what_nobody_knows_is_as_if_it_were_not_there(value: bytes, otherwise: int) -> None:
    assert priority_of([(NAME, value)], NAME, otherwise) == otherwise
    assert priority_of([], NAME, otherwise) == otherwise


def test_without_a_name_no_field_is_believed() -> None:
    assert priority_of([(NAME, b"critical"), (b"", b"critical")], b"", SHEDDABLE) == SHEDDABLE


@pytest.mark.parametrize(("pressure", "refused"), [(0, ""), (1, ""), (2, "2"), (3, "12"), (4, "12"), (9, "12")])
def test_under_pressure_the_less_important_is_turned_away_first(pressure: int, refused: str) -> None:
    assert (
        "".join(str(priority) for priority in (CRITICAL, DEFAULT, SHEDDABLE) if refuses(pressure, priority)) == refused
    )


def fill(limit: PriorityLimit, priority: int) -> int:
    """Take what this priority may have; how many are in use then."""
    while limit.try_acquire():
        pass
    while limit.has_room(priority):
        limit.acquire()
    return limit.in_use


def test_the_last_places_are_for_what_matters_more() -> None:
    # Given a limit of 20
    limit = PriorityLimit(20)

    # Then each priority fills it to its own mark, and the lower ones stay out
    assert fill(limit, SHEDDABLE) == 16
    assert fill(limit, DEFAULT) == 20
    assert fill(limit, CRITICAL) == 22
    assert not any(limit.has_room(priority) for priority in (CRITICAL, DEFAULT, SHEDDABLE))

    # And the first place that falls free is for the critical one
    limit.release()
    assert [limit.has_room(priority) for priority in (CRITICAL, DEFAULT, SHEDDABLE)] == [True, False, False]


@pytest.mark.parametrize(
    ("maximum", "marks"), [(1, (2, 1, 1)), (2, (3, 2, 1)), (10, (11, 10, 8)), (1024, (1127, 1024, 819))]
)
def test_small_limits_shut_nobody_out(maximum: int, marks: tuple[int, ...]) -> None:
    assert tuple(fill(PriorityLimit(maximum), priority) for priority in (CRITICAL, DEFAULT, SHEDDABLE)) == marks


def test_a_limit_that_asks_lets_nobody_in_unasked() -> None:
    limit = PriorityLimit(10)

    limit.ask_always(True)

    assert not limit.try_acquire()
    assert limit.has_room(SHEDDABLE)
    limit.configure(4)
    assert not limit.try_acquire(), "a new maximum does not forget it"
    limit.ask_always(False)
    assert limit.try_acquire()


def test_shares_change_in_place_and_take_nothing_back() -> None:
    limit = PriorityLimit(10)
    fill(limit, DEFAULT)

    limit.share(sheddable=0.5, critical=1.5)

    assert limit.in_use == 10
    assert limit.has_room(CRITICAL)
    assert not limit.has_room(SHEDDABLE)
    for _ in range(6):
        limit.release()
    assert limit.has_room(SHEDDABLE)
    assert limit.maximum == 10


def test_no_maximum_is_no_limit_for_anybody() -> None:
    limit = PriorityLimit(None)
    limit.share(sheddable=0.1, critical=1.0)

    assert all(limit.try_acquire() for _ in range(2000))
    assert limit.has_room(SHEDDABLE)
    assert limit.maximum is None


@given(
    maximum=st.integers(1, 5000),
    sheddable=st.floats(0, 1),
    critical=st.floats(1, 10),
    asks=st.booleans(),
)
def test_the_order_of_priorities_always_holds(maximum: int, sheddable: float, critical: float, asks: bool) -> None:
    limit = PriorityLimit(maximum, sheddable=sheddable, critical=critical)
    limit.ask_always(asks)

    marks = []
    for priority in (SHEDDABLE, DEFAULT, CRITICAL):
        limit.in_use = 0
        marks.append(fill(limit, priority))

    assert marks == sorted(marks)
    assert marks[0] >= 1
    assert marks[1] == maximum
