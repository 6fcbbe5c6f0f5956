"""Two tries at once: the first, which is slow, and a hedge beside it.

The path is told one outcome: the try that counts, and the event that it ended with. A good
answer ends the race, whoever gave it, and the other try is cancelled. One that is a failure, or
that the path would try again, waits for the other. See docs/adr/0026.
"""

from collections.abc import Generator
from math import inf
from typing import TYPE_CHECKING

from sidecar.model.outcome import Failure, Verdict
from sidecar.policy.breaker import CLOSED
from sidecar.policy.hedge import HedgePolicy
from sidecar.proxy.admit import strained
from sidecar.proxy.attempt import Attempt, Hedge
from sidecar.proxy.events import DEADLINE, FAILED, GONE, HEAD, IDLE
from sidecar.proxy.judge import verdict_of, wish
from sidecar.proxy.route import Route
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.pool import Pool

if TYPE_CHECKING:
    from sidecar.proxy.exchange import Exchange

# A timer is for a delay, and what is due for a time: a sum of floats lies between them.
_ROUNDING = 1e-6


def patience(exchange: "Exchange", attempt: Attempt, route: Route, cluster: Cluster, bound: float) -> float:
    """Seconds until somebody has to look at this try: a hedge may be due before `bound`
    is over. 0.0 for no bound, and for never."""
    hedge = route.hedge
    head = exchange.head
    if hedge is None or exchange.number >= route.retry.attempts or head.upgrade or head.method == b"CONNECT":
        return bound
    now = exchange.runtime.turn.now
    after = _delay(cluster, hedge, now)
    if after is None:
        return bound
    left = max(attempt.started + after - now, _ROUNDING)
    return min(left, bound) if bound else left


def _delay(cluster: Cluster, hedge: HedgePolicy, now: float) -> float | None:
    return None if cluster.hedging is None else cluster.hedging.delay(hedge, now)


class Race:
    """The tries of one exchange that are under way, from the time at which a hedge is due
    (`patience`) to that at which one of them counts."""

    __slots__ = ("_cluster", "_due", "_exchange", "_protocol", "_route")

    def __init__(self, exchange: "Exchange", first: Attempt, route: Route, cluster: Cluster, protocol: str) -> None:
        self._exchange = exchange
        self._route = route
        self._cluster = cluster
        self._protocol = protocol
        # Who is under way, in order, and when it has taken too long.
        self._due: dict[Attempt, float] = {}
        self._bound(first, first.started)

    def run(self, key: int) -> Generator[None, int | None, tuple[Attempt, int | None]]:
        """Make the second try, if it may be made, and wait. Whatever way this ends, by a
        bug or the end of the process as well, tries that do not count are let go."""
        exchange = self._exchange
        hedge: Attempt | None = None
        counts: Attempt | None = None
        event: int | None = None
        try:
            hedge = self._hedge(key)
            while True:
                counts = self._ended()
                if counts is not None:
                    event = HEAD if counts.failure is None else FAILED
                    break
                self._arm()
                event = exchange.inbox.pop(0) if exchange.inbox else (yield)
                exchange.disarm()
                if event in (GONE, DEADLINE, IDLE):
                    counts = next(iter(self._due))
                    self._pool(counts).leave(counts)
                    break
        finally:
            self._close(hedge, counts)
        exchange.attempt = counts
        return counts, event

    # -------------------------------------------------------------------- the second try

    def _hedge(self, key: int) -> Attempt | None:
        """A second try at another endpoint, or None: the first goes on alone."""
        exchange, cluster = self._exchange, self._cluster
        now = exchange.runtime.turn.now
        (first,) = self._due
        hedging = cluster.hedging
        if hedging is None or self._is_late(first, now):
            return None
        endpoint = None
        why = self._forbidden(now)
        if not why:
            endpoint = self._pick(key, now)
            if endpoint is None:
                why = "no_endpoint"
            elif not hedging.try_withdraw(cluster.budget, now):
                why = "budget"
        if why or endpoint is None:
            hedging.results[why] += 1
            return None
        exchange.number += 1
        exchange.noted = True
        endpoint.in_flight += 1
        hedge = Hedge(exchange, endpoint, exchange.number, endpoint.breaker.admit(now), now)
        repeatable = exchange.head.method == b"GET" and exchange.number < self._route.retry.attempts
        self._bound(hedge, now)
        stream = self._pool(hedge).acquire(hedge, now, repeatable)
        if isinstance(stream, Failure):
            hedge.failure = stream
        elif stream is not None:
            hedge.stream = stream
        return hedge

    def _forbidden(self, now: float) -> str:
        """Why this request gets no second try; empty for none."""
        exchange, route = self._exchange, self._route
        if not route.retry.idempotency.allows(exchange.head):
            return "not_idempotent"
        if not exchange.request_ended:
            return "incomplete"
        if exchange.upload is not None and exchange.upload.dropped:
            return "too_large"
        return "overloaded" if strained(exchange, self._cluster, route, now) else ""

    def _pick(self, key: int, now: float) -> Endpoint | None:
        """One that was not asked and is in use: a hedge is nobody's probe."""
        avoided = {*self._exchange.tried, *self._exchange.refused, *(attempt.endpoint for attempt in self._due)}
        while True:
            endpoint = self._cluster.balancer.pick(avoided, key, now)
            if endpoint is None or endpoint.breaker.state == CLOSED:
                return endpoint
            avoided.add(endpoint)

    # ------------------------------------------------------------------------- the wait

    def _ended(self) -> Attempt | None:
        """The try that counts, or None: none does yet."""
        while True:
            for attempt in self._due:
                if self._has_ended(attempt):
                    break
            else:
                return None
            if len(self._due) == 1 or self._is_good(attempt):
                return attempt
            self._put_aside(attempt)

    def _has_ended(self, attempt: Attempt) -> bool:
        """Whether a try has an answer or failed; one that just got its stream is sent."""
        now = self._exchange.runtime.turn.now
        if attempt.stream is not None and not attempt.sent and attempt.failure is None:
            self._exchange.send(attempt, self._route)
            self._bound(attempt, now)
        if attempt.failure is None and not attempt.told and self._is_late(attempt, now):
            attempt.failure = self._lateness(attempt)
        return attempt.failure is not None or attempt.told

    def _bound(self, attempt: Attempt, began: float) -> None:
        """Until when it may connect, or have no answer. A stream may take its time for that."""
        seconds = self._cluster.connect_timeout
        if attempt.sent:
            seconds = 0.0 if self._exchange.streaming else self._route.try_timeout
        self._due[attempt] = began + seconds if seconds else inf

    def _is_late(self, attempt: Attempt, now: float) -> bool:
        return now >= self._due[attempt] - _ROUNDING

    def _lateness(self, attempt: Attempt) -> Failure:
        if attempt.sent:
            return self._exchange.late()
        pool = self._pool(attempt)
        pool.leave(attempt)
        # Without a dial it waited for our own connection limit.
        return Failure.CONNECT_TIMEOUT if pool.dialling else Failure.OVERLOADED

    def _arm(self) -> None:
        exchange = self._exchange
        due = min(self._due.values())
        if due < inf:
            exchange.arm(max(due - exchange.runtime.turn.now, _ROUNDING))

    def _is_good(self, attempt: Attempt) -> bool:
        """Whether this answer is one to keep: no failure of its endpoint, and the path would not
        try again. A quick failure must not win over a slow answer that is well."""
        exchange = self._exchange
        return verdict_of(exchange, attempt) is Verdict.SUCCESS and not wish(exchange, attempt, self._route)[0]

    def _put_aside(self, attempt: Attempt) -> None:
        """It has nothing good to say, and the other one may."""
        exchange = self._exchange
        del self._due[attempt]
        exchange.settle(attempt, verdict_of(exchange, attempt))
        exchange.keep_answer(attempt)
        (exchange.attempt,) = self._due

    # -------------------------------------------------------------------------- the end

    def _close(self, hedge: Attempt | None, counts: Attempt | None) -> None:
        """Let go of who does not count, and count what came of the hedge."""
        good = counts is not None and counts.told and self._is_good(counts)
        for attempt in self._due:
            if attempt is not counts:
                self._let_go(attempt, good)
        if hedge is not None and self._cluster.hedging is not None:
            result = "failed" if not good else "won" if counts is hedge else "lost"
            self._cluster.hedging.results[result] += 1

    def _let_go(self, attempt: Attempt, outrun: bool) -> None:
        """Cancelled: neither success nor failure of its endpoint. But that its answer takes
        longer than this is known now, and a balancer that never heard of it would go on
        sending to an endpoint which is always outrun."""
        exchange = self._exchange
        self._pool(attempt).leave(attempt)
        attempt.failure = Failure.CANCELLED
        exchange.settle(attempt, Verdict.IGNORED)
        attempt.abandon()
        seconds = attempt.ended - attempt.started
        if outrun and seconds > attempt.endpoint.cost:
            self._cluster.balancer.observe(attempt.endpoint, seconds, attempt.ended)

    def _pool(self, attempt: Attempt) -> Pool:
        endpoint = attempt.endpoint
        return endpoint.pools.get(self._protocol) or self._cluster.pool(endpoint, self._protocol)
