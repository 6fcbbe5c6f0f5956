"""A limit answers at once and never forgets what is out."""

import pytest

from sidecar.policy.limit import Limit


def test_says_no_beyond_the_maximum() -> None:
    limit = Limit(2)

    assert [limit.try_acquire() for _ in range(4)] == [True, True, False, False]
    assert limit.in_use == 2


def test_what_is_released_can_be_taken_again() -> None:
    limit = Limit(1)
    assert limit.try_acquire()

    limit.release()

    assert limit.in_use == 0
    assert limit.try_acquire()


@pytest.mark.parametrize("maximum", [None, 0])
def test_no_maximum_is_no_limit_but_counted(maximum: int | None) -> None:
    limit = Limit(maximum)

    assert all(limit.try_acquire() for _ in range(5000))
    assert limit.in_use == 5000
    assert limit.maximum is None


def test_releasing_what_is_not_out_is_an_error() -> None:
    limit = Limit(3)

    with pytest.raises(RuntimeError, match="released"):
        limit.release()


def test_a_lower_maximum_takes_nothing_back() -> None:
    limit = Limit(4)
    for _ in range(4):
        limit.try_acquire()

    limit.configure(2)

    assert limit.in_use == 4
    limit.release()
    limit.release()
    assert not limit.try_acquire()
    limit.release()
    assert limit.try_acquire()
    assert limit.maximum == 2
