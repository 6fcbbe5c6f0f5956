"""Any order of attempts, results, timers and reloads: the breaker keeps its promises.

The promises: nobody is refused while closed, nobody let in while open, at most
`probes` permits in a half-open round, every legal transition counted once, and a
result of an earlier generation changes nothing at all.
"""

from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from sidecar.model.outcome import Verdict
from sidecar.policy.breaker import CLOSED, HALF_OPEN, OPEN, REFUSED
from tests.policy.breakers import POLICY, make_breaker
from tests.support.clock import FakeClock

policies = st.fixed_dictionaries(
    {
        "window": st.sampled_from([0.5, 10.0, 60.0]),
        "failure_ratio": st.sampled_from([0.1, 0.5, 1.0]),
        "min_requests": st.integers(1, 8),
        "consecutive": st.integers(0, 4),
        "open_base": st.sampled_from([0.1, 1.0]),
        "open_max": st.sampled_from([1.0, 60.0]),
        "probes": st.integers(1, 3),
    }
)


class BreakerMachine(RuleBasedStateMachine):
    permits: Bundle[int] = Bundle("permits")

    @initialize(policy=policies)
    def start(self, policy: dict[str, Any]) -> None:
        self.clock = FakeClock()
        self.policy = policy
        self.told: list[tuple[int, int]] = []
        self.breaker = make_breaker(self.clock, Random(1), **policy)
        self.breaker.on_change = self.note
        # Of the present half-open round: permits that are out, and successes.
        self.out = 0
        self.succeeded = 0

    def note(self, breaker: object, old: int, new: int) -> None:
        self.told.append((old, new))
        self.out = self.succeeded = 0

    @rule(target=permits)
    def admit(self) -> int:
        before = self.breaker.state
        permit = self.breaker.admit(self.clock())
        if before == CLOSED:
            assert permit == self.breaker.generation
        elif before == OPEN:
            assert permit == REFUSED
        else:
            room = self.out + self.succeeded < self.breaker_probes
            assert (permit != REFUSED) == room
            self.out += permit != REFUSED
        return permit

    @rule(permit=consumes(permits), verdict=st.sampled_from(Verdict))
    def record(self, permit: int, verdict: Verdict) -> None:
        breaker = self.breaker
        if permit == REFUSED:
            return
        state, generation, before = breaker.state, breaker.generation, self.snapshot()
        if permit == generation and state == HALF_OPEN:
            self.out -= 1
            self.succeeded += verdict is Verdict.SUCCESS
            closes = self.succeeded >= self.breaker_probes
        breaker.record(permit, verdict, self.clock())
        if permit != generation:
            assert self.snapshot() == before, "a late result"
        elif state == HALF_OPEN:
            expected = {
                Verdict.SUCCESS: CLOSED if closes else HALF_OPEN,
                Verdict.IGNORED: HALF_OPEN,
            }.get(verdict, OPEN)
            assert breaker.state == expected
        elif verdict in (Verdict.SUCCESS, Verdict.IGNORED):
            assert breaker.state == CLOSED, "only a failure opens"

    @rule(permit=consumes(permits), verdict=st.sampled_from(Verdict), times=st.integers(1, 12))
    def repeat(self, permit: int, verdict: Verdict, times: int) -> None:
        """The same again and again, each admitted: what makes ratios and runs."""
        self.record(permit, verdict)
        for _ in range(times):
            again = self.admit()
            if again == REFUSED:
                break
            self.record(again, verdict)

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 7.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def timer(self) -> None:
        was = self.breaker.state
        self.breaker.probe()
        assert self.breaker.state == (HALF_OPEN if was == OPEN else was)

    @rule(policy=policies)
    def reload(self, policy: dict[str, Any]) -> None:
        was = self.breaker.state
        self.policy = policy
        closes = was == HALF_OPEN and self.succeeded >= policy["probes"]
        self.breaker.configure(**policy)
        assert self.breaker.state == (CLOSED if closes else was)

    @property
    def breaker_probes(self) -> int:
        return int(self.policy["probes"])

    def snapshot(self) -> tuple[object, ...]:
        breaker = self.breaker
        return (
            breaker.state,
            breaker.generation,
            breaker.open_until,
            dict(breaker.transitions),
            breaker.counts(self.clock()),
        )

    @invariant()
    def transitions_are_those_that_were_told(self) -> None:
        breaker = self.breaker
        assert breaker.generation == len(self.told)
        assert breaker.transitions == {pair: self.told.count(pair) for pair in breaker.transitions}
        assert breaker.state == (self.told[-1][1] if self.told else CLOSED)
        for (_, reached), (left, _) in zip(self.told, self.told[1:], strict=False):
            assert reached == left

    @invariant()
    def the_open_time_is_bounded(self) -> None:
        longest = max(60.0, POLICY["open_max"])
        assert self.breaker.open_until <= self.breaker.changed_at + longest

    @invariant()
    def counts_are_sane(self) -> None:
        total, failures = self.breaker.counts(self.clock())
        assert 0 <= failures <= total


BreakerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None, derandomize=True)
TestBreakerMachine = BreakerMachine.TestCase
