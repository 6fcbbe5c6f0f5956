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
    crowd.on_change.append(lambda: told.append(crowd.is_one))
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


def test_when_half_of_the_few_are_left_it_has_ended() -> None:
    crowd = joined(3 * FEW)
    told: list[bool] = []
    crowd.on_change.append(lambda: told.append(crowd.is_one))
    while crowd.waiting > FEW // 2 + 1:
        crowd.leave()
    assert told == []
    crowd.leave()
    assert (told, crowd.portion) == ([False], WHOLE)
    while crowd.waiting:
        crowd.leave()
    for _ in range(FEW + 1):
        crowd.join()
    assert told == [False, True], "a new crowd is told anew"


def test_one_who_comes_and_goes_at_the_border_changes_nothing() -> None:
    crowd = joined(FEW + 1)
    told: list[bool] = []
    crowd.on_change.append(lambda: told.append(crowd.is_one))
    for _ in range(100):
        crowd.leave()
        crowd.join()
    assert told == []
    assert crowd.portion <= WHOLE
