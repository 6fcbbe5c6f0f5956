"""What an endpoint's closes say about how long it keeps idle connections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.upstream.idle import IdleTimeout


def learnt(*ages: float) -> IdleTimeout:
    timeout = IdleTimeout()
    for age in ages:
        timeout.closed_at(age, 0.0)
    return timeout


def test_nothing_known_allows_everything() -> None:
    assert IdleTimeout().allows(1e9, 0)


@pytest.mark.parametrize(
    ("age", "allowed"),
    [(0.0, True), (3.0, True), (4.49, True), (4.6, False), (5.0, False), (5.4, False)],
)
def test_a_connection_about_to_reach_the_limit_is_not_used(age: float, allowed: bool) -> None:
    assert learnt(5.0).allows(age, 0) is allowed


def test_the_shortest_age_counts() -> None:
    assert not learnt(5.0, 2.0, 9.0).allows(2.0, 0)


def test_a_short_limit_still_leaves_half_of_it() -> None:
    assert learnt(0.08).allows(0.03, 0)
    assert not learnt(0.08).allows(0.06, 0)


def test_what_outlived_the_limit_disproves_it() -> None:
    timeout = learnt(1.0)
    timeout.outlived(1.05)
    assert not timeout.allows(1.0, 0), "this one may still be closing"
    timeout.outlived(3.0)
    assert timeout.allows(2.0, 0)


def test_a_restart_does_not_end_reuse() -> None:
    """Its closes come at every age; the youngest are no idle timeouts at all."""
    timeout = learnt(0.001, 0.01, 0.0)
    assert timeout.allows(0.02, 0)
    assert timeout.allows(100.0, 0)


@pytest.mark.parametrize(("age", "allowed"), [(4.4, True), (4.6, False)])
def test_what_the_server_announced_counts_too(age: float, allowed: bool) -> None:
    assert IdleTimeout().allows(age, 5) is allowed


@given(st.floats(0.06, 1000.0), st.floats(0.0, 1.0))
def test_an_age_within_half_the_limit_is_always_fine(limit: float, share: float) -> None:
    assert learnt(limit).allows(limit * share / 2, 0)


@given(st.floats(0.06, 1000.0), st.floats(0.95, 1.05))
def test_an_age_at_the_limit_never_is(limit: float, factor: float) -> None:
    assert not learnt(limit).allows(limit * factor, 0)
