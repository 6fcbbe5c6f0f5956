"""The latest requests that somebody may ask about: slow, failed and retried ones,
each with what was decided about it and why."""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final

from sidecar.model.outcome import Failure
from sidecar.telemetry.access_log import entry, milliseconds, verdict_name

if TYPE_CHECKING:
    from sidecar.proxy.attempt import Attempt
    from sidecar.proxy.exchange import Exchange

# How many of each kind are kept. Apart, so that an outage's failures do not push
# out the slow request that somebody is looking for.
_KEPT: Final = 100
# Nothing faster is called slow.
_SLOW_SECONDS: Final = 1.0
# From so many requests on a cluster's own p99 says what is slow there.
_ENOUGH: Final = 100

# How many of the endpoints with open breakers are named.
_NAMED: Final = 16

KINDS: Final = ("failed", "retried", "slow")


class Notable:
    """Records of a Runtime. An ordinary request costs it four comparisons.

    failed   an attempt failed, or there was no answer
    retried  answered in the end, with more than one try, or a retry was not made
    slow     the answer began after more than a second, and as late as the slowest
             1 % of its cluster's requests
    """

    def __init__(self, kept: int = _KEPT, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._order = count(1)
        self._kinds: dict[str, deque[tuple[int, dict[str, Any]]]] = {kind: deque(maxlen=kept) for kind in KINDS}

    def finished(self, exchange: "Exchange") -> None:
        """Keep it if it is worth it."""
        slow = exchange.runtime.turn.now - exchange.started >= _SLOW_SECONDS
        if not slow and not exchange.attempts and exchange.failure is None and exchange.skipped is None:
            return
        kind = _kind(exchange)
        if kind:
            self._kinds[kind].append((next(self._order), _record(exchange, kind, self._now())))

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """At most `limit` requests, JSON-able, the latest first."""
        every = sorted((each for kind in self._kinds.values() for each in kind), key=lambda each: -each[0])
        return [record for _, record in every[:limit]]


def _kind(exchange: "Exchange") -> str:
    failure = exchange.failure
    # A client that leaves is no failure of anybody; it may have waited too long.
    if failure is not None and failure is not Failure.CANCELLED:
        return "failed"
    last = exchange.attempt
    if last is not None and failure is None and verdict_name(last.verdict) == "failure":
        return "failed"  # an error of the service, passed on
    if exchange.number > 1 or exchange.skipped is not None:
        return "retried"
    return "slow" if _is_slow(exchange) else ""


def _is_slow(exchange: "Exchange") -> bool:
    """By the time to the head: how long a stream or a download goes on says nothing."""
    last = exchange.attempt
    until = last.started + last.latency if last is not None and last.head is not None else exchange.runtime.turn.now
    seconds = until - exchange.started
    cluster = exchange.cluster
    if seconds < _SLOW_SECONDS or cluster is None:
        return False
    durations = cluster.durations
    # The quantile is its bucket's upper bound, half of it the lower one.
    return durations.count < _ENOUGH or seconds >= durations.quantile(0.99) / 2


def _record(exchange: "Exchange", kind: str, time: datetime) -> dict[str, Any]:
    tries = list(exchange.attempts)
    last = exchange.attempt
    if last is not None and last not in tries:
        tries.append(last)
    tries.sort(key=lambda each: each.number)  # of two at once either may have ended first
    cluster = exchange.cluster
    record = {"kind": kind, **entry(exchange, time)}
    refused = _refused(exchange)
    record["why"] = _why(exchange, tries, refused)
    record["tries"] = [_try(exchange, each) for each in tries]
    record["breaker_refused"] = refused
    if cluster is not None:
        record["retry_budget_remaining"] = round(cluster.budget.remaining(exchange.runtime.turn.now), 1)
    return record


def _try(exchange: "Exchange", attempt: "Attempt") -> dict[str, Any]:
    """One try. Times in milliseconds, `started_ms` since the request's head."""
    ended = attempt.ended or exchange.runtime.turn.now
    return {
        "number": attempt.number,
        "endpoint": attempt.endpoint.name,
        "hedge": attempt.is_hedge,
        "verdict": verdict_name(attempt.verdict),
        "failure": attempt.failure.reason if attempt.failure is not None else None,
        "detail": attempt.why or None,
        "status": attempt.head.status if attempt.head is not None else None,
        "started_ms": milliseconds(attempt.started - exchange.started),
        "duration_ms": milliseconds(ended - attempt.started),
    }


def _refused(exchange: "Exchange") -> list[str]:
    """Whose breakers did not let the request in. An open breaker is not asked: where all
    are, the first of them stand for themselves."""
    refused = exchange.refused
    if not refused and exchange.failure is Failure.BREAKER_OPEN and exchange.cluster is not None:
        refused = tuple(islice((each for each in exchange.cluster.endpoints if each.breaker.state), _NAMED))
    return [endpoint.name for endpoint in refused]


def _why(exchange: "Exchange", tries: "list[Attempt]", refused: list[str]) -> str:
    """The same in one line, for people."""
    parts = [
        f"try {each.number}{' (hedge)' if each.is_hedge else ''} at {each.endpoint.name}: {_outcome(each)}"
        for each in tries
    ]
    if refused:
        parts.append(f"breaker refused {', '.join(refused)}")
    if exchange.skipped is not None:
        parts.append(f"no further try: {exchange.skipped.value}")
    if exchange.failure is not None and not (tries and tries[-1].failure is exchange.failure):
        parts.append(f"answered with {exchange.failure.reason}")
    return "; ".join(parts)


def _outcome(attempt: "Attempt") -> str:
    if attempt.failure is not None:
        return f"{attempt.failure.reason} ({attempt.why})" if attempt.why else attempt.failure.reason
    return f"status {attempt.head.status}" if attempt.head is not None else "no answer"
