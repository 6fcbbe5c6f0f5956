"""The sidecar's metrics, read off the running parts at scrape time.

Nothing here is told of a request: the path adds to plain numbers, and this file
turns them into metric families. Each family comes row by row, so that whoever
renders it can let the event loop run between rows (see exposition.py).
"""

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Final, TypeVar

from prometheus_client.gc_collector import GC_COLLECTOR
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector as MetricSource
from prometheus_client.utils import floatToGoString

from sidecar.codec.grpc import STATUS_NAMES
from sidecar.model.meters import BOUNDS, Histogram
from sidecar.model.outcome import Failure, Skipped, Verdict
from sidecar.policy.breaker import CLOSED, HALF_OPEN, OPEN
from sidecar.policy.priority import PRIORITIES
from sidecar.policy.retry import RetryPolicy
from sidecar.proxy import reply
from sidecar.proxy.runtime import Runtime
from sidecar.proxy.snapshot import Snapshot
from sidecar.telemetry import logs, pressure
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.counts import requests_of
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint

# The results of a reload, in `sidecar_config_reloads_total`.
RELOAD_RESULTS: Final = ("ok", "rejected", "unchanged")

_STATES: Final = {CLOSED: "closed", HALF_OPEN: "half_open", OPEN: "open"}
_LE: Final = (*map(floatToGoString, BOUNDS), "+Inf")
_REPLIES: Final = tuple(dict.fromkeys(map(reply.reason_of, Failure)))
# Replies to what never had a cluster.
_WITHOUT_ROUTE: Final = (
    Failure.NO_ROUTE,
    Failure.BAD_REQUEST,
    Failure.FORBIDDEN,
    Failure.DRAINING,
    Failure.INTERNAL,
)
_CLUSTERLESS: Final = (*map(reply.reason_of, _WITHOUT_ROUTE), "too_large", "too_slow")
# HTTP statuses begin where gRPC codes end: one table for both.
_REASON_OF_CODE: Final = {
    code: reply.reason_of(failure)
    for failure in _WITHOUT_ROUTE
    for code in (reply.status_of(failure), reply.grpc_code_of(failure))
}

Rows = Iterator[None]
F = TypeVar("F", bound=Metric)


class Collector(MetricSource):
    """Every metric of one running sidecar.

    `reloads` counts reloads by result (RELOAD_RESULTS), `version` is the
    sidecar's own.
    """

    def __init__(self, runtime: Runtime, *, reloads: Mapping[str, int], version: str) -> None:
        self._runtime = runtime
        self._reloads = reloads
        self._version = version
        # Registered nowhere: it reads /proc when asked, and only then.
        self._process = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        """All families, complete."""
        for family, rows in self.families():
            for _ in rows:
                pass
            yield family

    def families(self) -> Iterator[tuple[Metric, Rows]]:
        """Each family with an iterator that adds its rows, a few at a step.

        The whole scrape reads one snapshot, however many turns it takes.
        """
        snapshot = self._runtime.snapshot
        yield from self._requests(snapshot)
        yield from self._retries(snapshot)
        yield from self._panics(snapshot)
        yield from self._endpoints(snapshot)
        yield from self._tls(snapshot)
        yield from self._itself(snapshot)
        for metric in (*pressure.families(self._runtime), *GC_COLLECTOR.collect(), *self._process.collect()):
            yield metric, iter(())

    # ------------------------------------------------------------------ clusters

    def _requests(self, snapshot: Snapshot) -> Iterator[tuple[Metric, Rows]]:
        clusters = snapshot.clusters.values()
        yield _family(
            CounterMetricFamily(
                "sidecar_requests", "Finished requests.", labels=["cluster", "route", "protocol", "code"]
            ),
            lambda family: _each(requests_of(self._runtime, snapshot).items(), family.add_metric),
        )
        yield _family(
            HistogramMetricFamily(
                "sidecar_request_duration_seconds",
                "From a request's head to the end of its response.",
                labels=["cluster"],
            ),
            lambda family: _histograms(family, (((cluster.name,), cluster.durations) for cluster in clusters)),
        )
        yield _family(
            GaugeMetricFamily("sidecar_requests_in_flight", "Requests under way.", labels=["cluster"]),
            lambda family: _each((((c.name,), c.requests.in_use) for c in clusters), family.add_metric),
        )
        yield _family(
            GaugeMetricFamily("sidecar_concurrency_limit", "How many requests may be under way.", labels=["cluster"]),
            lambda family: _each((((c.name,), c.requests.maximum or inf) for c in clusters), family.add_metric),
        )
        now = self._runtime.clock()
        yield _family(
            GaugeMetricFamily(
                "sidecar_rejection_probability",
                "How likely admission control is to reject a request.",
                labels=["cluster", "priority"],
            ),
            lambda family: _each(
                (
                    ((c.name, name), 0.0 if c.admission is None else c.admission.probability(priority, now))
                    for c in clusters
                    for priority, name in enumerate(PRIORITIES)
                ),
                family.add_metric,
            ),
        )
        yield _family(
            CounterMetricFamily(
                "sidecar_requests_shed", "Requests that were not let in.", labels=["cluster", "by", "priority"]
            ),
            lambda family: _each(
                (((c.name, *key), number) for c in clusters for key, number in c.shed.items()), family.add_metric
            ),
        )
        yield _family(
            CounterMetricFamily(
                "sidecar_local_replies", "Replies that the sidecar made itself.", labels=["cluster", "reason"]
            ),
            lambda family: _each(self._local_replies(snapshot), family.add_metric),
        )

    def _local_replies(self, snapshot: Snapshot) -> Iterator[tuple[tuple[str, ...], int]]:
        runtime = self._runtime
        unrouted: Counter[str] = Counter(dict.fromkeys(_CLUSTERLESS, 0))
        unrouted.update(runtime.refusals)
        for (_, code), number in runtime.unrouted.items():
            unrouted[_REASON_OF_CODE.get(code, "no_route")] += number
        for reason, number in unrouted.items():
            yield ("", reason), number
        for cluster in snapshot.clusters.values():
            for reason, number in _filled(_REPLIES, cluster.local_replies).items():
                yield (cluster.name, reason), number

    def _panics(self, snapshot: Snapshot) -> Iterator[tuple[Metric, Rows]]:
        clusters = snapshot.clusters.values()
        yield _family(
            GaugeMetricFamily(
                "sidecar_cluster_panic",
                "1 while so many endpoints are out that those which are unhealthy or ejected are used all the same.",
                labels=["cluster"],
            ),
            lambda family: _each((((c.name,), int(c.panic)) for c in clusters), family.add_metric),
        )
        yield _family(
            CounterMetricFamily("sidecar_cluster_panics", "How often that began.", labels=["cluster"]),
            lambda family: _each((((c.name,), c.panics) for c in clusters), family.add_metric),
        )

    def _retries(self, snapshot: Snapshot) -> Iterator[tuple[Metric, Rows]]:
        clusters = snapshot.clusters.values()
        skipped = tuple(reason.value for reason in Skipped)
        wanted = _retry_reasons(snapshot)
        yield _family(
            CounterMetricFamily("sidecar_retries", "Tries beyond the first.", labels=["cluster", "reason"]),
            lambda family: _each(
                (
                    ((cluster.name, reason), number)
                    for cluster in clusters
                    for reason, number in _filled(wanted.get(cluster.name, ()), cluster.retries).items()
                ),
                family.add_metric,
            ),
        )
        yield _family(
            CounterMetricFamily(
                "sidecar_retries_skipped", "Retries that were wanted and not made.", labels=["cluster", "reason"]
            ),
            lambda family: _each(
                (
                    ((cluster.name, reason), number)
                    for cluster in clusters
                    for reason, number in _filled(skipped, cluster.retries_skipped).items()
                ),
                family.add_metric,
            ),
        )
        yield _family(
            CounterMetricFamily(
                "sidecar_hedges", "Second tries beside slow ones, made or not.", labels=["cluster", "result"]
            ),
            lambda family: _each(
                (
                    ((cluster.name, result), number)
                    for cluster in clusters
                    if cluster.hedging is not None
                    for result, number in cluster.hedging.results.items()
                ),
                family.add_metric,
            ),
        )
        now = self._runtime.clock()
        yield _family(
            GaugeMetricFamily(
                "sidecar_retry_budget_remaining", "Retries that the budget allows now.", labels=["cluster"]
            ),
            lambda family: _each((((c.name,), c.budget.remaining(now)) for c in clusters), family.add_metric),
        )

    # ----------------------------------------------------------------- endpoints

    def _endpoints(self, snapshot: Snapshot) -> Iterator[tuple[Metric, Rows]]:
        # Taken once: the rows are read over several turns, in which a cluster may
        # get other endpoints.
        pairs = [(cluster, endpoint) for cluster in snapshot.clusters.values() for endpoint in cluster.endpoints]
        labels = ["cluster", "endpoint"]
        yield _family(
            CounterMetricFamily("sidecar_attempts", "Tries by what they said.", labels=[*labels, "verdict"]),
            lambda family: _each(_verdicts(pairs), family.add_metric),
        )
        yield _family(
            HistogramMetricFamily("sidecar_attempt_duration_seconds", "How long each try took.", labels=labels),
            lambda family: _histograms(family, (((c.name, e.name), e.durations) for c, e in pairs)),
        )
        yield _gauge(
            "sidecar_breaker_state", "0 closed, 1 half-open, 2 open.", pairs, lambda endpoint: endpoint.breaker.state
        )
        yield _family(
            CounterMetricFamily(
                "sidecar_breaker_transitions", "Changes of a breaker's state.", labels=[*labels, "from", "to"]
            ),
            lambda family: _each(_transitions(pairs), family.add_metric),
        )
        yield _gauge(
            "sidecar_endpoint_healthy",
            "What the health check last said; 1 where nothing checks.",
            pairs,
            lambda endpoint: int(endpoint.healthy),
        )
        yield _gauge(
            "sidecar_endpoint_ejected",
            "1 while it is left alone because it fails more than the others.",
            pairs,
            lambda endpoint: int(endpoint.ejected),
        )
        yield _family(
            CounterMetricFamily("sidecar_ejections", "How often it was ejected.", labels=labels),
            lambda family: _each((((c.name, e.name), e.ejections) for c, e in pairs), family.add_metric),
        )
        yield _gauge("sidecar_endpoint_in_flight", "Tries under way.", pairs, lambda endpoint: endpoint.in_flight)

    # ----------------------------------------------------------------------- TLS

    def _tls(self, snapshot: Snapshot) -> Iterator[tuple[Metric, Rows]]:
        tls = self._runtime.tls
        yield _family(
            CounterMetricFamily("sidecar_tls_handshake_errors", "Failed TLS handshakes.", labels=["side", "reason"]),
            lambda family: _each(list(tls.errors.items()), family.add_metric),
        )
        yield _family(
            GaugeMetricFamily(
                "sidecar_certificate_expiry_timestamp_seconds",
                "When a file's certificates end: the first of a chain, the last of the authorities.",
                labels=["file", "kind"],
            ),
            lambda family: _each(list(tls.expiries.items()), family.add_metric),
        )
        kept_out = {**dict.fromkeys(snapshot.listeners, 0), **tls.kept_out}
        yield _family(
            CounterMetricFamily(
                "sidecar_clients_kept_out", "Connections that clients.cidr did not let in.", labels=["listener"]
            ),
            lambda family: _each((((name,), number) for name, number in kept_out.items()), family.add_metric),
        )

    # ---------------------------------------------------------------- the process

    def _itself(self, snapshot: Snapshot) -> Iterator[tuple[Metric, Rows]]:
        runtime = self._runtime
        yield _family(
            GaugeMetricFamily("sidecar_connections", "Open connections.", labels=["side", "protocol"]),
            lambda family: _each(list(runtime.connections.items()), family.add_metric),
        )
        yield _family(
            CounterMetricFamily(
                "sidecar_forward_denied",
                "Destinations that a forward listener did not let a client reach.",
                labels=["listener", "reason"],
            ),
            lambda family: _each(_denied(snapshot), family.add_metric),
        )
        yield _family(
            CounterMetricFamily("sidecar_config_reloads", "Reloads of the configuration.", labels=["result"]),
            lambda family: _each(
                (((result,), number) for result, number in _filled(RELOAD_RESULTS, self._reloads).items()),
                family.add_metric,
            ),
        )
        yield _family(
            CounterMetricFamily(
                "sidecar_http2_abuse",
                "HTTP/2 connections that were ended for what their peer asked of us.",
                labels=["side", "reason"],
            ),
            lambda family: _each(list(runtime.abuse.counts.items()), family.add_metric),
        )
        yield _family(
            CounterMetricFamily("sidecar_internal_errors", "Bugs that were met, each at the cost of one request."),
            lambda family: _each([((), runtime.internal_errors)], family.add_metric),
        )
        yield _family(
            GaugeMetricFamily("sidecar_config_version", "The live configuration, counted from 1."),
            lambda family: _each([((), snapshot.version)], family.add_metric),
        )
        yield _family(
            GaugeMetricFamily("sidecar_build_info", "Always 1.", labels=["version", "python"]),
            lambda family: _each([((self._version, platform.python_version()), 1)], family.add_metric),
        )
        dropped = sum(record.dropped for record in runtime.records if isinstance(record, AccessLog))
        yield _family(
            CounterMetricFamily("sidecar_access_log_dropped", "Access log lines that could not be written in time."),
            lambda family: _each([((), dropped)], family.add_metric),
        )
        yield _family(
            CounterMetricFamily("sidecar_log_dropped", "Lines of the log that could not be written in time."),
            lambda family: _each([((), logs.dropped())], family.add_metric),
        )


def _denied(snapshot: Snapshot) -> Iterator[tuple[tuple[str, ...], int]]:
    for listener in snapshot.listeners.values():
        if listener.mode == "forward":
            for reason, number in listener.destinations.denied.items():
                yield (listener.name, reason), number


def _family(family: F, rows: Callable[[F], Rows]) -> tuple[Metric, Rows]:
    return family, rows(family)


def _gauge(
    name: str, documentation: str, pairs: list[tuple[Cluster, Endpoint]], value: Callable[[Endpoint], float]
) -> tuple[Metric, Rows]:
    family = GaugeMetricFamily(name, documentation, labels=["cluster", "endpoint"])
    return family, _each((((c.name, e.name), value(e)) for c, e in pairs), family.add_metric)


def _each(rows: Iterable[tuple[tuple[str, ...], float]], add: Callable[..., None]) -> Rows:
    for labels, value in rows:
        add(labels, value)
        yield


def _histograms(family: HistogramMetricFamily, rows: Iterator[tuple[tuple[str, ...], Histogram]]) -> Rows:
    for labels, histogram in rows:
        # Between two steps the path adds to it: counts and sum are read in one.
        below = 0
        buckets: list[tuple[str, float]] = []
        for le, number in zip(_LE, histogram.counts, strict=True):
            below += number
            buckets.append((le, below))
        family.add_metric(labels, buckets, histogram.total)
        yield


def _verdicts(pairs: list[tuple[Cluster, Endpoint]]) -> Iterator[tuple[tuple[str, ...], int]]:
    for cluster, endpoint in pairs:
        counts = endpoint.verdicts
        failures = counts[Verdict.FAILURE] + counts[Verdict.SOFT_FAILURE]
        yield (cluster.name, endpoint.name, "success"), counts[Verdict.SUCCESS]
        yield (cluster.name, endpoint.name, "failure"), failures
        yield (cluster.name, endpoint.name, "ignored"), counts[Verdict.IGNORED]


def _transitions(pairs: list[tuple[Cluster, Endpoint]]) -> Iterator[tuple[tuple[str, ...], int]]:
    for cluster, endpoint in pairs:
        for (old, new), number in endpoint.breaker.transitions.items():
            yield (cluster.name, endpoint.name, _STATES[old], _STATES[new]), number


def _retry_reasons(snapshot: Snapshot) -> dict[str, dict[str, None]]:
    """Why each cluster's requests may be tried again, by its routes' policies; in
    order, as the keys of a dict."""
    reasons: dict[str, dict[str, None]] = {}
    for listener in snapshot.listeners.values():
        for route in listener.table.routes:
            for target in route.targets:
                reasons.setdefault(target.cluster.name, {}).update(dict.fromkeys(_reasons_of(route.retry)))
    return reasons


def _reasons_of(policy: RetryPolicy) -> Iterator[str]:
    yield from sorted(failure.reason for failure in policy.failures)
    yield from map(str, sorted(policy.statuses))
    for code in sorted(policy.grpc_codes):
        yield STATUS_NAMES[code].lower()


def _filled(names: "tuple[str, ...] | dict[str, None]", counts: Mapping[str, int]) -> dict[str, int]:
    """The counts, with a 0 for each name that has none."""
    return {**dict.fromkeys(names, 0), **counts}
