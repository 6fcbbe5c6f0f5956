"""Steps of pressure: up at once, down only after a calm time and clear below."""

import pytest

from sidecar.policy.pressure import HOLD, REFUSE, SHED, WELL, Standing, Steps, memory_share

STEPS = (0.1, 0.25, 1.0)
MIB = 1 << 20


@pytest.mark.parametrize(
    ("value", "level"),
    [(0.0, WELL), (0.099, WELL), (0.1, HOLD), (0.25, SHED), (0.99, SHED), (1.0, REFUSE), (9, REFUSE)],
)
def test_a_step_up_is_taken_at_once(value: float, level: int) -> None:
    assert Steps(STEPS).update(value, 0.0) == level


def test_a_value_that_wavers_about_a_threshold_does_not_move_the_step() -> None:
    steps = Steps(STEPS)
    levels = {steps.update(0.3 if look % 2 else 0.22, look * 0.25) for look in range(1, 400)}
    assert levels == {SHED}


def test_steps_go_down_one_by_one_each_after_its_calm_time() -> None:
    steps = Steps(STEPS, calm=2.0)
    steps.update(5.0, 0.0)
    seen = [(look * 0.5, steps.update(0.0, look * 0.5)) for look in range(1, 20)]
    first_at = {level: next(at for at, each in seen if each == level) for level in (SHED, HOLD, WELL)}
    assert first_at == {SHED: 2.5, HOLD: 4.5, WELL: 6.5}


def test_pressure_that_returns_while_it_calms_down_begins_the_calm_time_anew() -> None:
    steps = Steps(STEPS, calm=2.0)
    steps.update(0.3, 0.0)
    steps.update(0.0, 1.0)
    assert steps.update(0.3, 2.9) == SHED
    assert steps.update(0.0, 3.0) == SHED
    assert steps.update(0.0, 4.9) == SHED
    assert steps.update(0.0, 5.0) == HOLD


def test_one_long_stall_is_no_standing_lag() -> None:
    standing = Standing()
    assert [standing.update(value) for value in (0.0, 3.0, 0.0, 0.0, 0.0)] == [0.0] * 5


def test_a_lag_that_stands_for_four_looks_is_one() -> None:
    standing = Standing()
    assert [standing.update(0.4) for _ in range(4)] == [0.0, 0.0, 0.0, 0.4]


@pytest.mark.parametrize(
    ("own", "used", "limit", "share"),
    [
        (80, 80, 100, 0.8),  # alone in its group
        (40, 940, 1000, 0.4),  # a neighbour uses 90 %: of the 100 that are left we use 40
        (40, 40, 0, 0.0),  # no limit
        (100, 2000, 1000, 1.0),  # over the limit already
    ],
)
def test_memory_is_shared_with_whoever_is_in_the_group(own: int, used: int, limit: int, share: float) -> None:
    assert memory_share(own * MIB, used * MIB, limit * MIB) == pytest.approx(share)
