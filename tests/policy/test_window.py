"""What the sliding window holds and for how long."""

import pytest

from sidecar.policy.window import Window


def count(window: Window, now: float, hit: bool = False) -> None:
    if now >= window.ends:
        window.rotate(now)
    window.total += 1
    window.hits += hit


def test_holds_an_event_for_nine_to_ten_tenths() -> None:
    window = Window(10.0)
    count(window, 1000.0, hit=True)

    assert window.counts(1008.99) == (1, 1)
    assert window.counts(1010.0) == (0, 0)


def test_forgets_bucket_by_bucket() -> None:
    window = Window(10.0)
    for second in range(10):
        count(window, 1000.0 + second, hit=second % 2 == 0)

    assert [window.counts(1009.5 + second)[0] for second in range(11)] == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_a_long_silence_forgets_everything() -> None:
    window = Window(10.0)
    count(window, 1000.0, hit=True)

    count(window, 1e6)

    assert window.counts(1e6) == (1, 0)


def test_an_earlier_time_does_no_harm() -> None:
    window = Window(10.0)
    count(window, 1000.0)

    count(window, 999.9)

    assert window.counts(1000.0) == (2, 0)


def test_resized_it_ages_at_the_new_pace() -> None:
    window = Window(10.0)
    count(window, 1000.0)

    window.resize(100.0)

    assert window.counts(1050.0) == (1, 0)
    assert window.counts(1101.0) == (0, 0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.0001, float("nan")])
def test_too_short_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="window"):
        Window(seconds)
