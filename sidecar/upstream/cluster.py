"""A named set of endpoints that serve the same thing, and what they share."""

import random
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from sidecar.model.head import RequestHead
from sidecar.model.meters import Histogram
from sidecar.model.outcome import Failure
from sidecar.policy.adaptive import AdaptiveLimit
from sidecar.policy.admission import Admission
from sidecar.policy.breaker import CLOSED, HALF_OPEN, OPEN, Breaker
from sidecar.policy.budget import Budget
from sidecar.policy.destinations import Destinations
from sidecar.policy.hedge import Hedging
from sidecar.policy.limit import Limit
from sidecar.policy.outlier import OutlierPolicy
from sidecar.policy.priority import PRIORITIES, PriorityLimit
from sidecar.upstream.balance.base import Balancer
from sidecar.upstream.ejection import Ejection
from sidecar.upstream.endpoint import Endpoint
from sidecar.upstream.pool import Connector, Pool, make_pool

_STATES = {CLOSED: "closed", HALF_OPEN: "half_open", OPEN: "open"}
_SWEEP_SECONDS = 5.0

# How long a breaker stays open, at most, while nobody else is usable: callers are served
# again within five seconds of the end of an outage, however long it was.
_NOBODY_LEFT_SECONDS = 3.0

# What may keep a request out of a cluster: its limits and the process's own state.
SHED_BY = ("requests", "adaptive", "admission", "pressure")


class Cluster:
    """Endpoints with their balancer, budget and limits; lives across reloads.

    Times in seconds. `protocol` is "auto", "http1" or "http2". `on_event(kind,
    fields)` hears of breaker and drain changes.
    """

    def __init__(
        self,
        name: str,
        *,
        balancer: Balancer,
        policy: str,
        budget: Budget,
        requests: PriorityLimit,
        connections: Limit,
        pending: Limit,
        connector: Connector,
        timers: Any,
        clock: Callable[[], float],
        rng: random.Random,
        on_event: Callable[[str, dict[str, Any]], None] = lambda kind, fields: None,
    ) -> None:
        self.name = name
        self.policy = policy
        self.protocol = "auto"
        self.balancer = balancer
        self.budget = budget
        self.requests = requests
        self.adaptive: AdaptiveLimit | None = None
        self.admission: Admission | None = None
        self.hedging: Hedging | None = None
        self.learning = False  # one of the three wants to hear of every request
        self.trusted = False  # some endpoint's breaker is closed
        self.apart = 0  # requests in flight that are streams or tunnels, which `adaptive` leaves alone
        self.connections = connections
        self.pending = pending
        self.connector = connector
        self.connect_timeout = 1.0
        self.idle_timeout = 300.0
        self.starving: dict[Any, None] = {}
        self.tls: Any = None  # a TLS setting of the connector, or None
        # Which resolved addresses may be connected to, where clients choose the host; else None.
        self.destinations: Destinations | None = None
        # For ring_hash and maglev: the 64-bit key of a request and its client.
        self.key_of: Callable[[RequestHead, str], int] | None = None
        self.endpoints: tuple[Endpoint, ...] = ()
        self.removed = False
        self.ejection: Ejection | None = None
        # So many are out that those which are unhealthy or ejected are used all the same.
        self.panic = False
        self.panics = 0
        self.out_of = (0, 0)  # how many are out, of how many, as `panic` sees it
        self._usable: tuple[Endpoint, ...] = ()
        self._preferred: tuple[Endpoint, ...] = ()
        self._timers = timers
        self._clock = clock
        self._rng = rng
        self._on_event = on_event
        self._timed: dict[int, Callable[[], None]] = {}
        # Meters.
        self.durations = Histogram()
        self.retries: dict[str, int] = {}
        self.retries_skipped: dict[str, int] = {}
        self.local_replies: dict[str, int] = {}
        # Requests that were not let in, by (what refused them, priority).
        self.shed = {(by, priority): 0 for by in SHED_BY for priority in PRIORITIES}
        # Methods that were seen to stream; bounded, because clients name them.
        self.streaming: set[bytes] = set()
        self._after(_SWEEP_SECONDS, self._sweep)

    # How much is let in.

    def regulate(
        self,
        adaptive: AdaptiveLimit | None,
        admission: Admission | None,
        maximum: int,
        hedging: Hedging | None = None,
    ) -> None:
        """Let the limit on requests follow latency, reject by success rate, try slow ones
        twice, or none of it."""
        self.adaptive = adaptive
        self.admission = admission
        self.hedging = hedging
        self.learning = adaptive is not None or admission is not None or hedging is not None
        self.requests.ask_always(admission is not None or self.panic)
        self.requests.configure(maximum)
        self.follow()

    def follow(self) -> None:
        """Bring the limit on requests to what the adaptive one says."""
        if self.adaptive is not None:
            self.requests.configure(min(self.adaptive.limit + self.apart, self.adaptive.maximum))

    def set_apart(self, streams: int) -> None:
        """So many streams more, or less. They last for reasons of their own: under a limit
        that is learned from latency they would take the places of all others. Counted under
        any limit, for a reload may bring that one while they last, or take it away."""
        self.apart += streams
        self.follow()

    def bound(self, connections: int, pending: int) -> None:
        """Change the limits in place; who waits for a connection gets what there is room for."""
        self.connections.configure(connections)
        self.pending.configure(pending)
        while self.starving and self.connections.in_use < connections:
            next(iter(self.starving)).feed_starving()

    # Which endpoints there are.

    def replace_endpoints(self, endpoints: list[Endpoint]) -> None:
        """Take a whole new set; those that are gone drain."""
        kept = set(endpoints)
        for endpoint in self.endpoints:
            if endpoint not in kept:
                self._close(endpoint)
        self.endpoints = tuple(endpoints)
        self.refresh()

    def balance(self, policy: str, balancer: Balancer) -> None:
        """Balance by another algorithm from now on."""
        self.policy = policy
        self.balancer = balancer
        balancer.update(self._preferred)

    def refresh(self) -> None:
        """Work out anew who is usable. Called on changes, never per request."""
        now = self._clock()
        usable = tuple(endpoint for endpoint in self.endpoints if endpoint.usable(now))
        known = set(self._usable)
        for endpoint in usable:
            if endpoint not in known:
                # Its latency of before is that of the failures which took it out. Were it
                # believed, no probe would be sent there, nor any load after one, for long.
                endpoint.cost_at = 0.0
                if self._usable:
                    endpoint.ready_since = now
        panic, back = self._called_back(usable, now)
        for endpoint in back:
            if endpoint not in known:
                endpoint.cost_at = 0.0
        if back:
            used = {*usable, *back}
            usable = tuple(endpoint for endpoint in self.endpoints if endpoint in used)
        if not usable:
            self._hurry(now)
        self._usable = usable
        self.trusted = any(endpoint.breaker.state == CLOSED for endpoint in usable)
        best = min((endpoint.priority for endpoint in usable), default=0)
        # The next priority is used only when this one has nobody left.
        self._preferred = tuple(endpoint for endpoint in usable if endpoint.priority == best)
        self.balancer.update(self._preferred)
        if self.panic != panic:
            self._set_panic(panic)

    # Who is out, and when that is too many.

    def eject_outliers(self, policy: OutlierPolicy | None) -> None:
        """Take out who fails more than the others, by this policy, or nobody. Called when the
        endpoints are there."""
        if policy is None:
            ejection, self.ejection = self.ejection, None
            if ejection is not None:
                ejection.stop()
        elif self.ejection is None:
            self.ejection = Ejection(self, policy, self._after)
        else:
            self.ejection.configure(policy)
        self.refresh()

    def set_ejected(self, endpoint: Endpoint, ejected: bool, **why: float) -> None:
        """Take an endpoint out, or bring it back."""
        endpoint.ejected = ejected
        self.refresh()
        self._on_event("ejection", {"cluster": self.name, "endpoint": endpoint.name, "ejected": ejected, **why})

    def can_spare(self, endpoint: Endpoint) -> bool:
        """Whether this one may be ejected beside all that are out by whatever means: so
        ejection by itself never comes to panic."""
        now = self._clock()
        group = [each for each in self.endpoints if each.drained_until <= now and each.priority == endpoint.priority]
        out = sum(not each.usable(now) for each in group)
        return endpoint.usable(now) and not self._too_many(out + 1, len(group))

    def _too_many(self, out: int, of: int) -> bool:
        """Whether more are out than may be. One always may, where there are others."""
        if self.ejection is None:
            return False
        share = self.ejection.policy.max_ejected
        return out > max(1, int(share * of + 1e-9)) or (out == of and share < 1.0)

    def _called_back(self, usable: Collection[Endpoint], now: float) -> tuple[bool, tuple[Endpoint, ...]]:
        """Whether too many of those who would be balanced over are out, and not by breakers
        alone; then also who is used all the same. An open breaker has its own word, and so has
        an operator: those who are called back and fail do not end a panic."""
        there = [endpoint for endpoint in self.endpoints if endpoint.drained_until <= now]
        best = min((endpoint.priority for endpoint in usable), default=None)
        group = [endpoint for endpoint in there if best is None or endpoint.priority == best]
        out = [endpoint for endpoint in group if not endpoint.usable(now)]
        self.out_of = (len(out), len(group))
        if not out or not self._too_many(*self.out_of):
            return False, ()
        panic = any(endpoint.ejected or not endpoint.healthy for endpoint in out)
        return panic, tuple(endpoint for endpoint in out if endpoint.breaker.state != OPEN)

    def _set_panic(self, panic: bool) -> None:
        self.panic = panic
        self.panics += panic
        # Answers say so, and requests must not pay for that in an ordinary hour.
        self.requests.ask_always(self.admission is not None or panic)
        out, of = self.out_of
        self._on_event("panic", {"cluster": self.name, "panic": panic, "out": out, "of": of})

    # Who is asked.

    def pick_another(
        self, tried: Collection[Endpoint], refused: Collection[Endpoint], key: int, now: float
    ) -> Endpoint | None:
        """An endpoint for another try (the first is `balancer.pick`): one that was not
        tried yet while there is one, never one of `refused`, whose breakers let nobody in."""
        avoided = {*tried, *refused}
        endpoint = self.balancer.pick(avoided, key, now)
        if endpoint is not None:
            return endpoint
        others = [each for each in self._usable if each not in avoided]
        if others:
            return self._rng.choice(others)
        # Everybody was tried: again at the best, or where there is still room.
        endpoint = self.balancer.pick(refused, key, now)
        if endpoint is None:
            others = [each for each in self._usable if each not in refused]
            endpoint = self._rng.choice(others) if others else None
        return endpoint

    def why_none(self) -> Failure:
        """The reason why `pick` found nobody."""
        now = self._clock()
        for endpoint in self.endpoints:
            heeded = endpoint.healthy or self.panic  # in a panic nobody asks what the checks say
            if heeded and endpoint.drained_until <= now and endpoint.breaker.state != CLOSED:
                return Failure.BREAKER_OPEN
        return Failure.NO_ENDPOINT

    def pool(self, endpoint: Endpoint, protocol: str) -> Pool:
        """The endpoint's pool for "http1" or "http2"."""
        pool = endpoint.pools.get(protocol)
        if pool is None:
            pool = endpoint.pools[protocol] = make_pool(protocol, endpoint, self, self.connector, self._clock)
            if self.removed or endpoint not in self.endpoints:
                pool.close()  # for a request from before: it keeps nothing idle
        return pool

    # What changes while it runs.

    def on_breaker(self, endpoint: Endpoint, breaker: Breaker, old: int, new: int) -> None:
        """A breaker changed its state."""
        if new == HALF_OPEN:
            # What was measured before it opened would keep the probe away for as long
            # as a balancer remembers it.
            endpoint.cost_at = 0.0
        self.refresh()
        if new == OPEN:
            self._after(breaker.open_until - self._clock(), lambda: self._probe(endpoint))
            for pool in endpoint.pools.values():
                pool.fail_waiters()
        self._on_event(
            "breaker",
            {"cluster": self.name, "endpoint": endpoint.name, "from": _STATES[old], "to": _STATES[new]},
        )

    def _probe(self, endpoint: Endpoint) -> None:
        breaker = endpoint.breaker
        left = breaker.open_until - self._clock()
        if breaker.state != OPEN or endpoint not in self.endpoints:
            return
        if left > 0:
            self._after(left, lambda: self._probe(endpoint))
        else:
            breaker.probe()

    def _hurry(self, now: float) -> None:
        """Nobody is left: probes that failed for long are no reason to wait for long, for
        there is nobody else to go to meanwhile."""
        for endpoint in self.endpoints:
            if endpoint.breaker.hurry(_NOBODY_LEFT_SECONDS, now):
                self._after(endpoint.breaker.open_until - now, partial(self._probe, endpoint))

    def set_health(self, endpoint: Endpoint, healthy: bool, reason: str = "") -> None:
        """What a health check found, and why."""
        if endpoint.healthy != healthy:
            endpoint.healthy = healthy
            endpoint.complaint = "" if healthy else reason
            self.refresh()
            fields = {"cluster": self.name, "endpoint": endpoint.name, "healthy": healthy, "reason": reason}
            self._on_event("health", fields)

    def drain(self, endpoint: Endpoint, ttl: float) -> None:
        """Take an endpoint out for `ttl` seconds; 0 brings it back."""
        endpoint.drained_until = self._clock() + ttl if ttl > 0 else 0.0
        self.refresh()
        if ttl > 0:
            self._after(ttl, lambda: self._undrain(endpoint))
        self._on_event("drain", {"cluster": self.name, "endpoint": endpoint.name, "ttl": ttl})

    def _undrain(self, endpoint: Endpoint) -> None:
        if endpoint.drained_until and endpoint.drained_until <= self._clock():
            self.drain(endpoint, 0.0)

    def learn_stream(self, path: bytes) -> None:
        """Remember that a gRPC method streams, so that no default deadline ends it."""
        if len(self.streaming) < 1024:
            self.streaming.add(path)

    # Connections.

    def evict_idle(self, other_than: Any) -> bool:
        """Make room under the connection limit at another pool's expense."""
        return any(
            pool.evict() for endpoint in self.endpoints for pool in endpoint.pools.values() if pool is not other_than
        )

    def _sweep(self) -> None:
        now = self._clock()
        for endpoint in self.endpoints:
            for pool in endpoint.pools.values():
                pool.sweep(now)
        self._after(_SWEEP_SECONDS, self._sweep)

    def _close(self, endpoint: Endpoint) -> None:
        for pool in endpoint.pools.values():
            pool.close()

    def reconnect(self) -> None:
        """New connections from now on: those that are open end with what they carry."""
        for endpoint in self.endpoints:
            self._close(endpoint)
            endpoint.pools.clear()

    def close(self) -> None:
        """The cluster was removed: no more timers, pools drain."""
        self.removed = True
        for token in self._timed:
            self._timers.cancel(token)
        self._timed.clear()
        for endpoint in self.endpoints:
            self._close(endpoint)

    # Timers.

    def _after(self, delay: float, call: Callable[[], None]) -> None:
        if not self.removed:
            self._timed[self._timers.add(max(0.0, delay), self)] = call

    def on_timer(self, token: int) -> None:
        """One of ours is over."""
        call = self._timed.pop(token, None)
        if call is not None:
            call()
