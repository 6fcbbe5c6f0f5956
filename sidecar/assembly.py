"""Where YAML becomes runtime objects: `assemble(spec, previous) -> Snapshot`.

Clusters are carried over by name and endpoints by address, so that breakers,
budgets, pools and meters live through a reload. Specs die here: what is below
takes plain keyword values.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sidecar.codec.grpc import STATUS_NUMBERS
from sidecar.config import clusters as c
from sidecar.config import listeners as l
from sidecar.config import tls as t
from sidecar.config.conditions import conditions
from sidecar.config.hedge import policy_of
from sidecar.config.schema import Spec
from sidecar.identity.clients import Clients
from sidecar.model.address import Address
from sidecar.policy.adaptive import AdaptiveLimit
from sidecar.policy.admission import Admission
from sidecar.policy.breaker import Breaker
from sidecar.policy.budget import Budget
from sidecar.policy.destinations import Destinations
from sidecar.policy.hedge import Hedging
from sidecar.policy.idempotency import Idempotency, MethodSet
from sidecar.policy.limit import Limit
from sidecar.policy.priority import PRIORITIES, PriorityLimit
from sidecar.policy.retry import RetryPolicy
from sidecar.proxy import route as r
from sidecar.proxy.affinity import KeyOf, key_of
from sidecar.proxy.snapshot import Listener, Snapshot
from sidecar.upstream.balance.make import make_balancer
from sidecar.upstream.cluster import Cluster
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.pool import Connector

# Hosts that forward mode remembers; clients choose them, so bounded.
_PASSTHROUGH_HOSTS = 256


@dataclass(slots=True)
class Parts:
    """What assembled objects are given: the process's clock, timers, sockets and ears.

    `tls_of` makes the TLS setting of a cluster's `tls` section, `listener_tls_of` that of a
    listener's. Equal sections give one object.
    """

    connector: Connector
    timers: Any
    clock: Callable[[], float]
    rng: random.Random
    tls_of: Callable[[t.Tls], Any]
    listener_tls_of: Callable[[t.ListenerTls], Any] = field(default=lambda tls: None)
    on_event: Callable[[str, dict[str, Any]], None] = field(default=lambda kind, fields: None)


def assemble(spec: Spec, previous: Snapshot, parts: Parts) -> Snapshot:
    """A snapshot of the spec. Nothing of `previous` changes before everything that
    can fail has succeeded: an exception leaves the old configuration as it was."""
    contexts = {
        name: None if cluster.tls is None else parts.tls_of(cluster.tls) for name, cluster in spec.clusters.items()
    }
    fresh: dict[str, Cluster] = {}
    try:
        for name, each in spec.clusters.items():
            if name not in previous.clusters:
                fresh[name] = _new_cluster(name, each, parts)
                _configure_cluster(fresh[name], each, contexts[name], parts)
        clusters = {name: fresh.get(name) or previous.clusters[name] for name in spec.clusters}
        listeners = {
            name: _listener(name, each, spec, clusters, previous, parts) for name, each in spec.all_listeners().items()
        }
        # Made once for nothing, so that what cannot be made fails here.
        for each in spec.clusters.values():
            _balancer(each, parts)
            _key_of(each)
    except Exception:
        for cluster in fresh.values():
            cluster.close()
        raise
    for name, cluster in clusters.items():
        if name not in fresh:
            _configure_cluster(cluster, spec.clusters[name], contexts[name], parts)
    for name, old in previous.clusters.items():
        if name not in clusters:
            old.close()
    for listener in previous.listeners.values():
        if isinstance(listener.passthrough, Passthrough):
            listener.passthrough.close()
    return Snapshot(previous.version + 1, listeners, clusters)


# ------------------------------------------------------------------------- clusters


def _new_cluster(name: str, spec: c.Cluster, parts: Parts) -> Cluster:
    return Cluster(
        name,
        balancer=_balancer(spec, parts),
        policy=spec.balance.policy,
        budget=Budget(spec.retry.budget.ratio, spec.retry.budget.floor),
        requests=PriorityLimit(spec.limits.requests),
        connections=Limit(spec.limits.connections),
        pending=Limit(spec.limits.pending),
        connector=parts.connector,
        timers=parts.timers,
        clock=parts.clock,
        rng=parts.rng,
        on_event=parts.on_event,
    )


def _balancer(spec: c.Cluster, parts: Parts) -> Any:
    return make_balancer(spec.balance.policy, rng=parts.rng, slow_start=spec.balance.slow_start)


def _key_of(spec: c.Cluster) -> KeyOf | None:
    return key_of(spec.balance.key) if spec.balance.key else None


def _configure_cluster(cluster: Cluster, spec: c.Cluster, tls: Any, parts: Parts) -> None:
    """Bring a cluster, new or carried over, to what the spec says."""
    cluster.protocol = spec.protocol
    if cluster.tls is not tls:
        cluster.reconnect()  # what was let pass under other rules is not used any more
    cluster.tls = tls
    cluster.balance(spec.balance.policy, _balancer(spec, parts))
    cluster.key_of = _key_of(spec)
    cluster.budget.configure(spec.retry.budget.ratio, spec.retry.budget.floor)
    cluster.requests.share(spec.limits.shares.sheddable, spec.limits.shares.critical)
    cluster.regulate(
        _adaptive(cluster, spec, parts),
        _admission(cluster, spec, parts),
        spec.limits.requests,
        _hedging(cluster, spec, parts),
    )
    cluster.connect_timeout = spec.timeouts.connect
    cluster.idle_timeout = spec.timeouts.idle or 300.0
    known = {endpoint.name: endpoint for endpoint in cluster.endpoints}
    cluster.bound(spec.limits.connections, spec.limits.pending)
    cluster.replace_endpoints([_endpoint(cluster, each, spec, known, parts) for each in spec.endpoints])
    cluster.eject_outliers(None if spec.outlier_ejection is None else spec.outlier_ejection.policy())


def _adaptive(cluster: Cluster, spec: c.Cluster, parts: Parts) -> AdaptiveLimit | None:
    """The cluster's own goes on with what it learned."""
    if spec.limits.adaptive is None:
        return None
    policy = spec.limits.adaptive.policy(spec.limits.requests)
    if cluster.adaptive is None:
        return AdaptiveLimit(policy, parts.rng, parts.clock())
    cluster.adaptive.configure(policy)
    return cluster.adaptive


def _admission(cluster: Cluster, spec: c.Cluster, parts: Parts) -> Admission | None:
    if spec.admission is None:
        return None
    if cluster.admission is None:
        return Admission(spec.admission.policy(), parts.rng)
    cluster.admission.configure(spec.admission.policy())
    return cluster.admission


def _hedging(cluster: Cluster, spec: c.Cluster, parts: Parts) -> Hedging | None:
    if spec.hedge is None:
        return None
    if cluster.hedging is None:
        return Hedging(spec.hedge.budget, parts.clock())
    cluster.hedging.configure(spec.hedge.budget)
    return cluster.hedging


def _breaker_policy(spec: c.Breaker) -> dict[str, Any]:
    return {
        "window": spec.window,
        "failure_ratio": spec.failure_ratio,
        "min_requests": spec.min_requests,
        "consecutive": spec.consecutive,
        "open_base": spec.open.base,
        "open_max": spec.open.max,
        "probes": spec.probes,
    }


def _endpoint(
    cluster: Cluster, spec: c.Endpoint, owner: c.Cluster, known: dict[str, Endpoint], parts: Parts
) -> Endpoint:
    policy = _breaker_policy(owner.breaker)
    endpoint = known.get(str(spec.address))
    if endpoint is None:
        breaker = Breaker(name=f"{cluster.name}/{spec.address}", rng=parts.rng, clock=parts.clock, **policy)
        endpoint = new = Endpoint(spec.address, breaker)
        breaker.on_change = lambda changed, old, state: cluster.on_breaker(new, changed, old, state)
    else:
        endpoint.breaker.configure(**policy)
    endpoint.weight, endpoint.zone, endpoint.priority = spec.weight, spec.zone, spec.priority
    return endpoint


# --------------------------------------------------------------------------- routes


def _listener(
    name: str, spec: l.Listener, whole: Spec, clusters: dict[str, Cluster], previous: Snapshot, parts: Parts
) -> Listener:
    old = previous.listeners.get(name)
    kept = {route.name: route for route in old.table.routes} if old is not None else {}
    header = (spec.priority_header or "").encode()
    guards = _guards(spec.clients)
    rules = [_rule(route, header, guards, whole, clusters, kept.get(route.name)) for route in spec.routes]
    destinations = Destinations(spec.allow)
    if old is not None:
        destinations.denied = old.destinations.denied  # counters live on
    passthrough = Passthrough(name, whole, parts, destinations, guards) if spec.mode == "forward" else None
    if passthrough is not None and old is not None and isinstance(old.passthrough, Passthrough):
        passthrough.codes = old.passthrough.codes  # counters live on
    table = r.RouteTable(rules)
    only = table.only if spec.mode == "http" else None
    tls = None if spec.tls is None else parts.listener_tls_of(spec.tls)
    return Listener(
        name,
        spec.mode,
        table,
        destinations,
        passthrough,
        only,
        guards,
        tls,
        pace=spec.timeouts.pace(),
        max_connections=spec.max_connections,
    )


def _guards(spec: t.Clients | None) -> tuple[Clients, ...]:
    return () if spec is None else (Clients(spec.san, spec.cidr),)


class Passthrough:
    """Routes to the hosts under a forward listener's `allow`, made when first asked for.

    Each host is a cluster of one endpoint under the defaults; all share one row
    of meters, for clients choose the hosts.
    """

    def __init__(
        self, listener: str, spec: Spec, parts: Parts, destinations: Destinations, guards: tuple[Clients, ...]
    ) -> None:
        self._name = f"{listener}.allow"
        self._guards = guards
        self._spec = spec
        self._parts = parts
        self._destinations = destinations
        self._routes: dict[tuple[str, int], r.Route] = {}
        self.codes: dict[tuple[str, int], int] = {}

    def __call__(self, host: str, port: int) -> r.Route:
        """The route to a host that `allow` lets through."""
        route = self._routes.get((host, port))
        if route is None:
            if len(self._routes) >= _PASSTHROUGH_HOSTS:
                oldest = self._routes.pop(next(iter(self._routes)))
                oldest.targets[0].cluster.close()
            route = self._routes[host, port] = self._make(host, port)
        return route

    def _make(self, host: str, port: int) -> r.Route:
        address = Address(host.strip("[]"), port)
        values = {key: getattr(self._spec.defaults, key) for key in self._spec.defaults.model_fields_set}
        values["endpoints"] = [c.Endpoint.model_construct(address=address)]
        spec = c.Cluster.model_construct(**values)
        cluster = _new_cluster(self._name, spec, self._parts)
        _configure_cluster(cluster, spec, None, self._parts)
        cluster.destinations = self._destinations
        target = r.Target(cluster)
        target.codes = self.codes
        return r.Route(
            name=self._name,
            targets=(target,),
            retry=_retry(spec.retry),
            request_timeout=spec.timeouts.request,
            try_timeout=spec.timeouts.try_,
            idle_timeout=spec.timeouts.idle,
            min_rate=spec.timeouts.min_rate,
            hedge=None if spec.hedge is None else policy_of(spec.hedge.after),
            guards=self._guards,
            codes=self.codes,
        )

    def close(self) -> None:
        """The listener is gone, or was made anew."""
        for route in self._routes.values():
            route.targets[0].cluster.close()


def _rule(
    spec: l.Route,
    header: bytes,
    guards: tuple[Clients, ...],
    whole: Spec,
    clusters: dict[str, Cluster],
    old: r.Route | None,
) -> r.Rule:
    match = spec.match
    tests = tuple(test for _, test in conditions(match))
    route = _route(spec, header, guards, whole, clusters, old)
    return r.Rule(route=route, hosts=tuple(match.host or ()), tests=tests)


def _route(
    spec: l.Route,
    header: bytes,
    guards: tuple[Clients, ...],
    whole: Spec,
    clusters: dict[str, Cluster],
    old: r.Route | None,
) -> r.Route:
    headers = spec.headers
    common: dict[str, Any] = {
        "name": spec.name,
        "priority": PRIORITIES.index(spec.priority),
        "priority_header": header,
        "guards": (*guards, *_guards(spec.clients)),
        "request_headers": _edit(headers.request) if headers else None,
        "response_headers": _edit(headers.response) if headers else None,
        "codes": old.codes if old is not None else {},
    }
    if spec.to is None:
        return r.Route(redirect=_redirect(spec), respond=_respond(spec), **common)
    # The first target's policies are the route's: a split is between versions of one service.
    first = whole.clusters[next(iter(spec.to))]
    timeouts = spec.timeouts_over(first.timeouts)
    bounds: list[int] = []
    for weight in spec.to.values():
        bounds.append((bounds[-1] if bounds else 0) + weight)
    return r.Route(
        targets=tuple(_target(clusters[name], old) for name in spec.to),
        bounds=tuple(bounds) if len(bounds) > 1 else (),
        retry=_retry(spec.retry_over(first.retry)),
        request_timeout=timeouts.request,
        try_timeout=timeouts.try_,
        idle_timeout=timeouts.idle,
        min_rate=timeouts.min_rate,
        hedge=policy_of(spec.hedge_over(first)),
        streams=MethodSet(timeouts.streams) if timeouts.streams else None,
        rewrite=_rewrite(spec),
        plain=spec.rewrite is None and common["request_headers"] is None,
        **common,
    )


def _target(cluster: Cluster, old: r.Route | None) -> r.Target:
    for target in old.targets if old is not None else ():
        if target.cluster is cluster:
            return target
    return r.Target(cluster)


def _retry(spec: c.Retry) -> RetryPolicy:
    return RetryPolicy(
        attempts=spec.attempts,
        failures=RetryPolicy.failures_of(spec.on),
        statuses=frozenset(reason for reason in spec.on if isinstance(reason, int)),
        grpc_codes=frozenset(STATUS_NUMBERS[name] for name in spec.grpc_on),
        idempotency=Idempotency(spec.idempotent),
        backoff_base=spec.backoff.base,
        backoff_max=spec.backoff.max,
        replay=spec.replay,
    )


def _matched(match: l.Match) -> str:
    """The part of the path that a prefix rewrite or redirect replaces."""
    return match.prefix or match.path or ""


def _rewrite(spec: l.Route) -> r.Rewrite | None:
    if spec.rewrite is None:
        return None
    prefix, host = spec.rewrite.prefix, spec.rewrite.host
    return r.Rewrite(
        _matched(spec.match).encode(),
        None if prefix is None else prefix.encode(),
        None if host is None else host.encode(),
    )


def _redirect(spec: l.Route) -> r.Redirect | None:
    to = spec.redirect
    if to is None:
        return None
    return r.Redirect(to.status, to.scheme, to.host, to.path, to.prefix, _matched(spec.match))


def _respond(spec: l.Route) -> r.Respond | None:
    answer = spec.respond
    if answer is None:
        return None
    return r.Respond(answer.status, answer.body.encode(), _pairs(answer.headers))


def _pairs(fields: dict[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((name.lower().encode(), value.encode()) for name, value in fields.items())


def _edit(spec: l.HeaderEdits | None) -> r.HeaderEdit | None:
    if spec is None or not (spec.set or spec.add or spec.remove):
        return None
    return r.HeaderEdit(frozenset(name.lower().encode() for name in spec.remove), _pairs(spec.set), _pairs(spec.add))
