"""How much may be taken before somebody looks."""

from sidecar.policy.growth import CONNECTION, STEP, Growth


def test_it_is_looked_at_once_for_each_step() -> None:
    growth, looks = Growth(), []
    growth.on_much = lambda: looks.append(1)
    for _ in range(3 * STEP // CONNECTION):
        growth.one_more()
    assert len(looks) == 3
    growth.took(10 * STEP)
    assert len(looks) == 4, "a large piece is one"


def test_what_the_look_finds_is_told_to_who_took() -> None:
    growth = Growth()

    def look() -> None:
        growth.short = True

    growth.on_much = look
    assert not growth.took(STEP - 1)
    assert growth.took(1)
