"""Who is let in when it is not plain that everybody is, and what a cluster learns of it.

The path asks only where the process is under pressure, the cluster's limit has no room
for everybody, or the cluster always wants to be asked (sidecar/policy/priority.py,
adaptive.py, admission.py): a request in an ordinary hour never comes here.
"""

from typing import TYPE_CHECKING, Final

from sidecar.model.outcome import Failure, Verdict
from sidecar.policy.adaptive import AdaptiveLimit
from sidecar.policy.breaker import CLOSED
from sidecar.policy.hedge import Latencies
from sidecar.policy.priority import PRIORITIES, SHEDDABLE, priority_of, refuses
from sidecar.proxy.route import Route
from sidecar.upstream.cluster import Cluster

if TYPE_CHECKING:
    from sidecar.proxy.exchange import Exchange

# The words of `Cluster.shed`.
_BY: Final = {
    Failure.CONCURRENCY: "requests",
    Failure.ADAPTIVE: "adaptive",
    Failure.ADMISSION: "admission",
    Failure.PRESSURE: "pressure",
}

# "You ask too often": a refusal, though no failure of the endpoint.
_TOO_MANY_REQUESTS: Final = 429
_RESOURCE_EXHAUSTED: Final = 8


def admit(exchange: "Exchange", cluster: Cluster, route: Route, now: float) -> Failure | None:
    """Take a place under the cluster's limit, or say what keeps the request out."""
    priority = _priority(exchange, route)
    if cluster.panic:
        exchange.noted = True
    refused: Failure | None = None
    if refuses(exchange.runtime.pressure, priority):
        refused = Failure.PRESSURE
    elif not cluster.requests.has_room(priority):
        refused = Failure.CONCURRENCY if cluster.adaptive is None else Failure.ADAPTIVE
    elif cluster.admission is not None and cluster.trusted and cluster.admission.rejects(priority, now):
        # While all breakers are open or probe, they alone say who goes out: what was rejected then would
        # keep the rest away for seconds after the probes have found that all is well.
        refused = Failure.ADMISSION
    if refused is None:
        cluster.requests.acquire()
    else:
        cluster.shed[_BY[refused], PRIORITIES[priority]] += 1
    return refused


def spared(exchange: "Exchange", cluster: Cluster, route: Route, now: float) -> bool:
    """Whether a retry is to be left out, because a first try of this importance would
    hardly get in now: what is less important is not asked twice for."""
    runtime = exchange.runtime
    priority = _priority(exchange, route)
    if refuses(runtime.pressure, priority):
        return True
    if priority != SHEDDABLE:
        return False
    admission = cluster.admission
    # Its own place counts: without it there would be room for one.
    full = not cluster.requests.has_room(priority)
    return bool(runtime.pressure) or full or (admission is not None and admission.probability(priority, now) > 0.0)


def strained(exchange: "Exchange", cluster: Cluster, route: Route, now: float) -> bool:
    """Whether this is no time to ask twice for what was not refused yet: the request is
    sheddable, or one that is would not get in, or many endpoints are out."""
    if exchange.runtime.pressure or cluster.panic or _priority(exchange, route) == SHEDDABLE:
        return True
    closed = sum(endpoint.breaker.state == CLOSED for endpoint in cluster.endpoints)
    if 2 * closed < len(cluster.endpoints) or not cluster.requests.has_room(SHEDDABLE):
        return True
    return cluster.admission is not None and cluster.admission.probability(SHEDDABLE, now) > 0.0


def learn(exchange: "Exchange", cluster: Cluster, now: float) -> None:
    """What an exchange that was let in came to. Called while it still holds its place."""
    served = _served(exchange)
    adaptive = cluster.adaptive
    apart = exchange.streaming or exchange.tunnel
    if apart:
        cluster.set_apart(-1)
    elif adaptive is not None and exchange.number:
        changed = _heed(adaptive, exchange, served, cluster.requests.in_use - cluster.apart, now)
        if changed:
            cluster.follow()
    if cluster.admission is not None and exchange.number and served is not None:
        cluster.admission.record(served, now)
    if cluster.hedging is not None and not apart:
        _tell_latencies(exchange, cluster.hedging.latencies, now)


def _tell_latencies(exchange: "Exchange", latencies: Latencies, now: float) -> None:
    """How long each try took to its answer. One that a hedge has outrun, or that had no
    answer in time, would have taken longer: left out, those would make the tail look
    shorter with every hedge. Of hedges themselves only the quick ones are ever known."""
    last = exchange.attempt
    if last is not None and last.verdict is Verdict.SUCCESS and not last.is_hedge:
        latencies.add(last.latency, now)
    outrun = last is not None and exchange.failure is None
    for attempt in exchange.attempts:
        late = attempt.failure is Failure.TIMEOUT or (outrun and attempt.failure is Failure.CANCELLED)
        if late and not attempt.is_hedge:
            latencies.add(attempt.ended - attempt.started, now)


def _heed(adaptive: AdaptiveLimit, exchange: "Exchange", served: bool | None, in_flight: int, now: float) -> bool:
    """Tell the limit how long it took. A quick failure says nothing of how long work takes."""
    attempt = exchange.attempt
    if served and attempt is not None:
        return adaptive.observe(attempt.started, attempt.latency, in_flight, now)
    if exchange.failure in (Failure.TIMEOUT, Failure.CANCELLED) and not exchange.committed:
        return adaptive.at_least(exchange.started, now - exchange.started, in_flight, now)
    return False


def _served(exchange: "Exchange") -> bool | None:
    """Whether the endpoints did what they were asked for; None where it was not for them
    to say."""
    if exchange.failure is not None:
        return False if exchange.failure.blames_endpoint else None
    attempt = exchange.attempt
    if attempt is None or attempt.verdict is Verdict.IGNORED:
        return None
    if exchange.status == _TOO_MANY_REQUESTS or exchange.code == _RESOURCE_EXHAUSTED:
        return False
    return attempt.verdict is Verdict.SUCCESS


def _priority(exchange: "Exchange", route: Route) -> int:
    return priority_of(exchange.head.headers, route.priority_header, route.priority)
