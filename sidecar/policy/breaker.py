"""The circuit breaker in front of one endpoint.

pybreaker is the state machine (M. Nygard, "Release It!"). It is driven, never
called around a call: the window here decides when to open, the owner's timer
when to probe, the probes' verdicts when to close. Its listener copies the state
into a slot, which is all that the hot path reads.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from sidecar.model.lean import hidden
from sidecar.model.outcome import Verdict
from sidecar.policy.window import Window

with hidden("redis"):  # for a storage that blocks the event loop: 10 MiB
    from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker, CircuitBreakerListener
    from pybreaker import CircuitBreakerState as State

CLOSED: Final = 0
HALF_OPEN: Final = 1
OPEN: Final = 2

# What `admit` returns instead of a permit.
REFUSED: Final = -1

_STATES = {STATE_CLOSED: CLOSED, STATE_HALF_OPEN: HALF_OPEN, STATE_OPEN: OPEN}

# An enum member read off its class costs as much as the rest of `record`.
_SUCCESS = Verdict.SUCCESS
_FAILURE = Verdict.FAILURE
_IGNORED = Verdict.IGNORED

# An open time is between 80 % and 100 % of its nominal value. Downwards only, so
# that it never exceeds `open_max`, and that who waits the nominal time is let in.
_JITTER = 0.2

# 2^k beyond which doubling cannot matter, so that the float never overflows.
_DOUBLINGS = 64


class Breaker:
    """Closed passes, open refuses, half-open lets `probes` attempts through.

    `state` and `generation` are read by anybody and written here. Every
    transition begins a generation; a permit is the generation it was given in.

    A round of half-open gives out at most `probes` permits. The first failure
    opens again, for twice as long; as many successes as `probes` close. An
    ignored probe hands its permit back and decides nothing. A soft failure is a
    failure here: the probe asked whether the service is back, and it is not. The
    round lasts as long as its probes: record a stream's when it is established.
    """

    __slots__ = (
        "_clock",
        "_consecutive",
        "_doublings",
        "_failure_ratio",
        "_free",
        "_min_requests",
        "_open_base",
        "_open_max",
        "_probes",
        "_rng",
        "_run",
        "_successes",
        "_switch",
        "_window",
        "changed_at",
        "generation",
        "name",
        "on_change",
        "open_until",
        "state",
        "transitions",
    )

    def __init__(
        self,
        *,
        name: str,
        window: float,
        failure_ratio: float,
        min_requests: int,
        consecutive: int,
        open_base: float,
        open_max: float,
        probes: int,
        rng: Random,
        clock: Callable[[], float],
        on_change: "Callable[[Breaker, int, int], None] | None" = None,
    ) -> None:
        """A closed breaker; the policy's values are those of `configure`.

        `on_change(breaker, old, new)` is called after each transition; `clock`
        is monotonic, in seconds.
        """
        self.name = name
        self.on_change = on_change
        self._rng = rng
        self._clock = clock
        self._window = Window(window)
        # Failures in a row, of those that count as such.
        self._run = 0
        # How often the open time doubled since it was last closed.
        self._doublings = 0
        # Of the present half-open round: permits left, and successes so far.
        self._free = 0
        self._successes = 0
        self._probes = probes
        self.state: int = CLOSED
        self.generation = 0
        self.changed_at = clock()
        # When the owner is to call `probe`; has a meaning only while open.
        self.open_until = 0.0
        self.transitions = {
            (CLOSED, OPEN): 0,
            (OPEN, HALF_OPEN): 0,
            (HALF_OPEN, OPEN): 0,
            (HALF_OPEN, CLOSED): 0,
        }
        self._switch = CircuitBreaker(name=name, listeners=[_StateCopy(self)])
        self.configure(
            window=window,
            failure_ratio=failure_ratio,
            min_requests=min_requests,
            consecutive=consecutive,
            open_base=open_base,
            open_max=open_max,
            probes=probes,
        )

    def configure(
        self,
        *,
        window: float,
        failure_ratio: float,
        min_requests: int,
        consecutive: int,
        open_base: float,
        open_max: float,
        probes: int,
    ) -> None:
        """Change the policy in place: state, permits and counts live on.

        `window`, `open_base` and `open_max` are seconds. Opens when, within
        `window`, at least `min_requests` were recorded and at least
        `failure_ratio` of them failed; or after `consecutive` failures in a row
        (0: never for that reason). An open time that runs already is not changed.
        """
        if probes < 1:
            raise ValueError(f"{probes} probes: at least 1 is needed to close again")
        self._window.resize(window)
        self._failure_ratio = failure_ratio
        self._min_requests = min_requests
        self._consecutive = consecutive
        self._open_base = open_base
        self._open_max = max(open_base, open_max)
        self._free += probes - self._probes
        self._probes = probes
        if self.state == HALF_OPEN and self._successes >= probes:
            self._close()

    def admit(self, now: float) -> int:
        """A permit to try this endpoint, or REFUSED. Each permit needs one `record`."""
        if not self.state:
            return self.generation
        if self.state == HALF_OPEN and self._free > 0:
            self._free -= 1
            return self.generation
        return REFUSED

    def record(self, permit: int, verdict: Verdict, now: float) -> None:
        """Say how the attempt with this permit ended, exactly once.

        A permit of an earlier generation is dropped: it tells of a time that was
        judged already.
        """
        if permit != self.generation:
            return
        if self.state:
            self._record_probe(verdict)
            return
        if verdict is _IGNORED:
            return
        window = self._window
        if now >= window.ends:
            window.rotate(now)
        window.total += 1
        if verdict is _SUCCESS:
            self._run = 0
        else:
            window.hits += 1
            self._record_failure(verdict, window)

    def probe(self) -> None:
        """The open time is over: open to half-open. Elsewhere it does nothing, so
        that a timer which fires late does no harm."""
        if self.state == OPEN:
            self._move(self._switch.half_open)

    def hurry(self, seconds: float, now: float) -> bool:
        """Stay open no longer than about `seconds` more, or the policy's first open time
        if that is longer; whether this is sooner than before."""
        most = max(seconds, self._open_base)
        if self.state != OPEN or self.open_until <= now + most:
            return False
        self.open_until = now + most * (1.0 - _JITTER * self._rng.random())
        return True

    def counts(self, now: float) -> tuple[int, int]:
        """Attempts recorded and failures among them, in the window at `now`."""
        return self._window.counts(now)

    def _record_failure(self, verdict: Verdict, window: Window) -> None:
        if verdict is _FAILURE:
            self._run += 1
            if 0 < self._consecutive <= self._run:
                self._open()
                return
        total = window.total - window.base_total
        if total >= self._min_requests and window.hits - window.base_hits >= self._failure_ratio * total:
            self._open()

    def _record_probe(self, verdict: Verdict) -> None:
        # A current permit while not closed is a probe's: open gives none out.
        if verdict is _IGNORED:
            self._free += 1
        elif verdict is _SUCCESS:
            self._successes += 1
            if self._successes >= self._probes:
                self._close()
        else:
            self._open()

    def _open(self) -> None:
        self._move(self._switch.open)

    def _close(self) -> None:
        self._move(self._switch.close)

    def _move(self, transition: Callable[[], object]) -> None:
        # `on_change` comes after pybreaker is done: it may call back into us.
        old = self.state
        transition()
        if self.on_change is not None:
            self.on_change(self, old, self.state)

    def _changed(self, old: int, new: int) -> None:
        """Follow pybreaker into its new state."""
        now = self._clock()
        self.state = new
        self.generation += 1
        self.changed_at = now
        self.transitions[old, new] += 1
        if new == OPEN:
            self._doublings = min(self._doublings + 1, _DOUBLINGS) if old == HALF_OPEN else 0
            self.open_until = now + self._open_time()
        elif new == HALF_OPEN:
            self._free = self._probes
            self._successes = 0
        else:
            # What was counted before it opened would open it again.
            self._run = 0
            self._window.clear(now)

    def _open_time(self) -> float:
        nominal = min(self._open_max, self._open_base * 2.0**self._doublings)
        return nominal * (1.0 - _JITTER * self._rng.random())

    def __repr__(self) -> str:
        return f"Breaker({self.name}, {('closed', 'half-open', 'open')[self.state]})"


class _StateCopy(CircuitBreakerListener):
    """Copies pybreaker's state into the slots of a Breaker."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def state_change(self, cb: CircuitBreaker, old_state: State | None, new_state: State) -> None:
        """Called by pybreaker within `open`, `half_open` and `close`."""
        old = CLOSED if old_state is None else _STATES[old_state.name]
        self._breaker._changed(old, _STATES[new_state.name])
