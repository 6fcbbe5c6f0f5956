"""/api/clusters: what is known of clusters and endpoints, and taking one out."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from sidecar.admin.answers import json_answer, refusal
from sidecar.admin.operations import Operations
from sidecar.config.units import BadValueError, parse_positive_duration
from sidecar.model.outcome import Verdict
from sidecar.policy.adaptive import AdaptiveLimit
from sidecar.policy.breaker import CLOSED, HALF_OPEN, OPEN
from sidecar.policy.limit import Limit
from sidecar.policy.priority import PRIORITIES
from sidecar.telemetry.counts import requests_of
from sidecar.upstream.cluster import SHED_BY, Cluster
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.pool import H1Pool, H2Pool, Pool

_STATES: Final = {CLOSED: "closed", HALF_OPEN: "half_open", OPEN: "open"}
_DEFAULT_TTL: Final = "60s"


class ClusterViews:
    """The clusters of the live snapshot."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def every(self, _: web.Request) -> web.Response:
        """All clusters."""
        totals = self._totals()
        clusters = self._operations.runtime.snapshot.clusters
        return json_answer({"clusters": [self._cluster(cluster, totals) for cluster in clusters.values()]})

    async def one(self, request: web.Request) -> web.Response:
        """One cluster, or 404."""
        cluster = self._named(request)
        if isinstance(cluster, web.Response):
            return cluster
        return json_answer(self._cluster(cluster, self._totals()))

    async def drain(self, request: web.Request) -> web.Response:
        """Take an endpoint out for `?ttl=`, a minute by default."""
        try:
            ttl = parse_positive_duration(request.query.get("ttl", _DEFAULT_TTL))
        except BadValueError as error:
            hint = f" ({error.hint})" if error.hint else ""
            return refusal(400, "bad_ttl", f"ttl: {error.reason}{hint}")
        return self._change(request, lambda cluster, endpoint: cluster.drain(endpoint, ttl))

    async def undrain(self, request: web.Request) -> web.Response:
        """Bring it back."""
        return self._change(request, lambda cluster, endpoint: cluster.drain(endpoint, 0.0))

    def _change(self, request: web.Request, change: Callable[[Cluster, Endpoint], None]) -> web.Response:
        cluster = self._named(request)
        if isinstance(cluster, web.Response):
            return cluster
        # A path of slashes, in which aiohttp leaves escaped ones as they are.
        address = unquote(request.match_info["address"])
        for endpoint in cluster.endpoints:
            if endpoint.name == address:
                # Clusters are changed inside a turn: it writes what the change sets off.
                turn = self._operations.runtime.turn
                turn.begin()
                try:
                    change(cluster, endpoint)
                finally:
                    turn.end()
                return json_answer({"cluster": cluster.name, "endpoint": self._endpoint(cluster, endpoint)})
        known = ", ".join(endpoint.name for endpoint in cluster.endpoints)
        return refusal(404, "unknown_endpoint", f"{cluster.name} has no endpoint {address}: it has {known}")

    def _named(self, request: web.Request) -> Cluster | web.Response:
        name = unquote(request.match_info["name"])
        cluster = self._operations.runtime.snapshot.clusters.get(name)
        return cluster if cluster is not None else refusal(404, "unknown_cluster", f"there is no cluster {name}")

    def _totals(self) -> Counter[str]:
        runtime = self._operations.runtime
        totals: Counter[str] = Counter()
        for (cluster, *_), number in requests_of(runtime, runtime.snapshot).items():
            totals[cluster] += number
        return totals

    def _cluster(self, cluster: Cluster, totals: Counter[str]) -> dict[str, Any]:
        return {
            "name": cluster.name,
            "policy": cluster.policy,
            "protocol": cluster.protocol,
            "requests": {"in_flight": cluster.requests.in_use, "total": totals[cluster.name]},
            "retry_budget_remaining": round(cluster.budget.remaining(self._operations.runtime.clock()), 1),
            "retries": dict(cluster.retries),
            "retries_skipped": dict(cluster.retries_skipped),
            "local_replies": dict(cluster.local_replies),
            "limits": {
                "requests": _limit(cluster.requests),
                "adaptive": None if cluster.adaptive is None else _adaptive(cluster.adaptive),
                "connections": _limit(cluster.connections),
                "pending": _limit(cluster.pending),
            },
            "shed": _shed(cluster),
            "panic": cluster.panic,
            "rejection_probability": _rejection(cluster, self._operations.runtime.clock()),
            "hedging": _hedging(cluster, self._operations.runtime.clock()),
            "latency_ms": {
                "p50": round(cluster.durations.quantile(0.5) * 1000, 3),
                "p99": round(cluster.durations.quantile(0.99) * 1000, 3),
            },
            "endpoints": [self._endpoint(cluster, endpoint) for endpoint in cluster.endpoints],
        }

    def _endpoint(self, cluster: Cluster, endpoint: Endpoint) -> dict[str, Any]:
        now = self._operations.runtime.clock()
        verdicts = endpoint.verdicts
        # Only this policy measures; before the first answer it holds a guess.
        measured = cluster.policy == "peak_ewma" and endpoint.cost_at > 0
        return {
            "address": endpoint.name,
            "weight": endpoint.weight,
            "zone": endpoint.zone,
            "priority": endpoint.priority,
            "healthy": endpoint.healthy,
            "unhealthy_because": endpoint.complaint or None,
            "trouble": endpoint.trouble or None,
            "usable": endpoint.usable(now),
            "draining": endpoint.drained_until > now,
            "ejected": endpoint.ejected,
            "breaker": _STATES[endpoint.breaker.state],
            "in_flight": endpoint.in_flight,
            "ewma_ms": round(endpoint.cost * 1000, 3) if measured else 0.0,
            "attempts": {
                "success": verdicts[Verdict.SUCCESS],
                "failure": verdicts[Verdict.FAILURE] + verdicts[Verdict.SOFT_FAILURE],
                "ignored": verdicts[Verdict.IGNORED],
            },
            "connections": _connections(endpoint),
        }


def _limit(limit: Limit) -> dict[str, int | None]:
    return {"in_use": limit.in_use, "maximum": limit.maximum}


def _adaptive(limit: AdaptiveLimit) -> dict[str, float]:
    return {"limit": limit.limit, "baseline_ms": round(limit.baseline * 1000, 3)}


def _shed(cluster: Cluster) -> dict[str, dict[str, int]]:
    """By what kept them out, then by priority."""
    return {by: {priority: cluster.shed[by, priority] for priority in PRIORITIES} for by in SHED_BY}


def _rejection(cluster: Cluster, now: float) -> dict[str, float] | None:
    admission = cluster.admission
    if admission is None:
        return None
    return {name: round(admission.probability(priority, now), 3) for priority, name in enumerate(PRIORITIES)}


def _hedging(cluster: Cluster, now: float) -> dict[str, Any] | None:
    """What became of hedges, and latency as they see it: null while too little is known."""
    hedging = cluster.hedging
    if hedging is None:
        return None
    known = {f"p{percent}": hedging.latencies.quantile(percent / 100, now) for percent in (50, 95, 99)}
    latency = {name: None if value is None else round(value * 1000, 3) for name, value in known.items()}
    return {"latency_ms": latency, "results": dict(hedging.results)}


def _connections(endpoint: Endpoint) -> dict[str, int]:
    pools = list(endpoint.pools.values())
    return {"open": sum(len(pool.connections) for pool in pools), "idle": sum(map(_idle, pools))}


def _idle(pool: Pool) -> int:
    if isinstance(pool, H1Pool):
        return len(pool.idle)
    if isinstance(pool, H2Pool):
        return sum(not connection.open_streams for connection in pool.connections)
    return 0  # a tunnel is never idle
