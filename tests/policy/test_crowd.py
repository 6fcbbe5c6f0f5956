"""Much that waits: what is read at a time falls with the number, and all is as before when few are left."""

from sidecar.policy.crowd import FEW, LEAST, WHOLE, Crowd


def joined(number: int) -> Crowd:
    crowd = Crowd()
    for _ in range(number):
        crowd.join()
    return crowd


def test_few_may_have_all() -> None:
    crowd = joined(FEW)
    assert not crowd.is_one
    assert crowd.portion == WHOLE


def test_one_more_is_a_crowd_and_its_begin_is_told_once() -> None:
    crowd = joined(FEW)
    told: list[bool] = []
    crowd.on_begin.append(lambda: told.append(crowd.is_one))
    crowd.join()
    crowd.join()
    assert told == [True]
    assert LEAST < crowd.portion < WHOLE


def test_of_twice_as_many_each_has_a_quarter() -> None:
    assert joined(2 * FEW).portion == WHOLE // 4
    assert joined(4 * FEW).portion == WHOLE // 16


def test_nobody_has_less_than_the_least() -> None:
    assert joined(100 * FEW).portion == LEAST


def test_all_that_came_one_after_the_other_hold_twice_what_the_first_few_do() -> None:
    crowd, held, number = Crowd(), 0, 10_000
    for _ in range(number):
        held += crowd.portion
        crowd.join()
    assert held <= 2 * FEW * WHOLE + number * LEAST


def test_when_few_are_left_they_may_have_all_again() -> None:
    crowd = joined(3 * FEW)
    for _ in range(2 * FEW):
        crowd.leave()
    assert not crowd.is_one
    assert crowd.portion == WHOLE
    for _ in range(FEW):
        crowd.leave()
    assert (crowd.waiting, crowd.portion) == (0, WHOLE)
    told: list[int] = []
    crowd.on_begin.append(lambda: told.append(crowd.waiting))
    for _ in range(FEW + 1):
        crowd.join()
    assert told == [FEW + 1], "a new crowd is told anew: who came since reads as ever"
