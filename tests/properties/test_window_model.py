"""The ring of buckets against a list of every event."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.policy.window import Window

# In hundredths of a second: sums of them are exact enough to compare.
gaps = st.lists(st.tuples(st.integers(0, 1500), st.booleans()), min_size=1, max_size=80)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(gaps=gaps)
def test_holds_all_of_nine_tenths_and_nothing_beyond_the_whole(gaps: list[tuple[int, bool]]) -> None:
    window = Window(10.0)
    events: list[tuple[float, bool]] = []
    now = 100_000

    for gap, hit in gaps:
        now += gap
        time = now / 100
        if time >= window.ends:
            window.rotate(time)
        window.total += 1
        window.hits += hit
        events.append((time, hit))

        total, hits = window.counts(time)
        # A hair of slack: bucket bounds are sums of floats.
        sure = [event for event in events if event[0] > time - 9.0 + 1e-6]
        possible = [event for event in events if event[0] > time - 10.0 - 1e-6]
        assert len(sure) <= total <= len(possible)
        assert sum(hit for _, hit in sure) <= hits <= sum(hit for _, hit in possible)
