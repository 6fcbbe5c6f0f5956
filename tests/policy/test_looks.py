"""Looks: all that are wanted while few are, and a bounded number when many are."""

import itertools

import pytest

from sidecar.policy.looks import Looks


def taken(looks: Looks, now: float) -> int:
    """How many there are to be had at a time."""
    return sum(1 for _ in itertools.takewhile(lambda _: looks.take(now), itertools.count()))


def test_who_wants_few_gets_them_all() -> None:
    looks = Looks(apart=0.02)
    assert all(looks.take(100.0 + 0.02 * number) for number in range(10_000))


def test_what_nobody_wanted_may_be_taken_at_once_and_no_more() -> None:
    looks = Looks(apart=0.25, saved=2.0)
    assert taken(looks, 100.0) == 8
    assert taken(looks, 100.5) == 2
    assert taken(looks, 1e6) == 8


def test_there_are_no_more_than_so_many_for_all_together() -> None:
    looks = Looks(pause=1.0, apart=0.25, saved=2.0)
    had = sum(taken(looks, 100.0 + 0.01 * step) for step in range(10_000))
    assert had == pytest.approx(100.0 / 0.25 + 2.0 / 0.25, abs=1)


def test_who_got_none_is_looked_at_again_after_a_pause() -> None:
    looks = Looks(pause=1.0, apart=0.02)
    assert looks.next(100.0) == 101.0
    assert looks.next(200.0) == 201.0


def test_a_look_that_is_promised_is_nobody_else_s() -> None:
    looks = Looks(pause=1.0, apart=0.02)
    assert looks.next(100.0) == 101.0
    assert not looks.take(101.0)
    assert looks.take(101.5)


def test_many_are_looked_at_one_after_the_other() -> None:
    looks = Looks(pause=1.0, apart=0.02)
    times = [looks.next(100.0) for _ in range(1000)]
    assert times[0] == 101.0
    assert all(later - sooner == pytest.approx(0.02) for sooner, later in itertools.pairwise(times))
