"""From a spec to a snapshot, and from one snapshot to the next."""

from random import Random
from typing import Any

import pytest

from sidecar.assembly import Parts, assemble
from sidecar.model.head import RequestHead
from sidecar.model.outcome import Failure, Verdict
from sidecar.policy.breaker import OPEN
from sidecar.policy.hedge import HedgePolicy
from sidecar.policy.priority import CRITICAL, DEFAULT, SHEDDABLE
from sidecar.proxy.route import Route
from sidecar.proxy.snapshot import Snapshot
from tests.config.loading import load
from tests.proxy.fakes import FakeConnector, FakeTimers
from tests.support.clock import FakeClock

TWO = """
clusters:
  users:
    endpoints: ['a:1', {address: 'b:1', weight: 3, zone: eu, priority: 1}]
  orders:
    listen: 127.0.0.1:19001
    endpoints: ['c:1']
listeners:
  outbound:
    bind: 127.0.0.1:15001
    routes:
      - match: {host: users.internal, prefix: /v1}
        to: users
        rewrite: {prefix: /}
      - match: {host: users.internal}
        to: {users: 9, orders: 1}
      - to: orders
"""


class Assembled:
    """Snapshots one after the other, with fakes for what they are given."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.timers = FakeTimers(self.clock)
        self.connector = FakeConnector(self)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.tls_fails = False
        self.tls: dict[str, object] = {}  # equal sections are one setting
        self.parts = Parts(
            connector=self.connector,
            timers=self.timers,
            clock=self.clock,
            rng=Random(1),
            tls_of=self._tls,
            on_event=lambda kind, fields: self.events.append((kind, fields)),
        )
        self.snapshot = Snapshot()

    def _tls(self, tls: Any) -> object:
        if self.tls_fails:
            raise OSError("no such certificate")
        return self.tls.setdefault(tls.model_dump_json(), object())

    def load(self, text: str) -> Snapshot:
        self.snapshot = assemble(load(text), self.snapshot, self.parts)
        return self.snapshot

    def route(self, listener: str, host: str = "users.internal", path: str = "/", method: str = "GET") -> Any:
        return self.snapshot.listeners[listener].match(RequestHead(method.encode(), path.encode(), host.encode(), []))


@pytest.fixture
def assembled() -> Assembled:
    return Assembled()


def test_a_first_snapshot(assembled: Assembled) -> None:
    snapshot = assembled.load(TWO)
    assert snapshot.version == 1
    assert set(snapshot.clusters) == {"users", "orders"}
    assert set(snapshot.listeners) == {"outbound", "orders"}
    one, two = snapshot.clusters["users"].endpoints
    assert (one.name, one.weight, one.zone, one.priority) == ("a:1", 1, "", 0)
    assert (two.name, two.weight, two.zone, two.priority) == ("b:1", 3, "eu", 1)
    route = assembled.route("outbound", path="/v1/x")
    assert [target.cluster.name for target in route.targets] == ["users"]
    assert not route.plain
    split = assembled.route("outbound")
    assert [target.cluster.name for target in split.targets] == ["users", "orders"]
    assert split.bounds == (9, 10)
    assert assembled.route("outbound", "elsewhere").targets[0].cluster.name == "orders"


def test_the_port_of_a_cluster_takes_every_host_and_path(assembled: Assembled) -> None:
    assembled.load(TWO)
    route = assembled.route("orders", "whatever.example", "/any")
    assert route.targets[0].cluster.name == "orders"
    assert assembled.snapshot.listeners["orders"].only is route
    assert isinstance(route, Route)
    assert route.plain


def test_policies_reach_where_they_work(assembled: Assembled) -> None:
    assembled.load("""
        clusters:
          users:
            protocol: http2
            endpoints: ['a:1']
            balance: {policy: ring_hash, key: 'header:x-user'}
            timeouts: {connect: 2s, request: 3s, try: 1s, idle: 40s, streams: [pkg.S/Watch]}
            retry:
              attempts: 5
              on: [unsent, 503]
              grpc_on: [unavailable, aborted]
              idempotent: ['POST /search*']
              backoff: {base: 1ms, max: 2ms}
              budget: {ratio: 0.5, floor: 1}
              replay: 1KiB
            limits: {connections: 3, pending: 4, requests: 5}
            listen: 127.0.0.1:1
        """)
    cluster = assembled.snapshot.clusters["users"]
    route = assembled.route("users")
    assert (cluster.protocol, cluster.policy) == ("http2", "ring_hash")
    assert (cluster.connect_timeout, cluster.idle_timeout) == (2.0, 40.0)
    assert (cluster.connections.maximum, cluster.pending.maximum, cluster.requests.maximum) == (3, 4, 5)
    assert cluster.budget.remaining(assembled.clock.now) == 10.0
    assert cluster.key_of is not None
    assert (route.request_timeout, route.try_timeout, route.idle_timeout) == (3.0, 1.0, 40.0)
    assert b"/pkg.S/Watch" in route.streams
    assert (route.retry.attempts, route.retry.replay) == (5, 1024)
    assert route.retry.statuses == {503}
    assert Failure.RESET not in route.retry.failures
    assert Failure.REFUSED in route.retry.failures
    assert route.retry.grpc_codes == {14, 10}
    assert (route.retry.backoff_base, route.retry.backoff_max) == (0.001, 0.002)
    assert route.retry.idempotency.allows(RequestHead(b"POST", b"/search/x", b"", []))


def test_a_route_narrows_its_clusters_policies(assembled: Assembled) -> None:
    assembled.load("""
        clusters: {users: {endpoints: ['a:1'], timeouts: {request: 9s}}}
        listeners:
          out:
            bind: 127.0.0.1:0
            routes:
              - {match: {prefix: /slow}, to: users, timeout: 0}
              - {match: {prefix: /fast}, to: users, timeout: 1s, retry: {attempts: 1}}
              - {to: users}
        """)
    assert assembled.route("out", path="/slow").request_timeout == 0.0
    fast = assembled.route("out", path="/fast")
    assert (fast.request_timeout, fast.retry.attempts) == (1.0, 1)
    rest = assembled.route("out", path="/")
    assert (rest.request_timeout, rest.retry.attempts) == (9.0, 3)
    assert Failure.RESET in fast.retry.failures, "what is not narrowed stays"


def test_answers_without_a_cluster(assembled: Assembled) -> None:
    assembled.load("""
        clusters: {users: {endpoints: ['a:1']}}
        listeners:
          out:
            bind: 127.0.0.1:0
            routes:
              - {match: {path: /old}, redirect: {status: 301, prefix: /new}}
              - match: {path: /ping}
                respond: {status: 203, body: pong, headers: {X-Own: '1'}}
                headers: {response: {set: {x-set: a}, add: {x-add: b}, remove: [x-gone]}}
              - {match: {methods: [GET], headers: {x-beta: '1'}}, to: users}
        """)
    old = assembled.route("out", path="/old")
    assert old.targets == ()
    assert old.redirect.location(RequestHead(b"GET", b"/old?q", b"h", [])) == "http://h/new?q"
    ping = assembled.route("out", path="/ping")
    assert (ping.respond.status, ping.respond.body) == (203, b"pong")
    assert ping.respond.headers == ((b"x-own", b"1"),)
    edited = ping.response_headers.apply([(b"x-gone", b"1"), (b"x-set", b"0")])
    assert edited == [(b"x-set", b"a"), (b"x-add", b"b")]
    assert assembled.route("out", path="/else") is Failure.NO_ROUTE


# ---------------------------------------------------------------------------- reload


def test_what_stays_is_the_same_object(assembled: Assembled) -> None:
    first = assembled.load(TWO)
    users = first.clusters["users"]
    one, two = users.endpoints
    pool = users.pool(one, "http1")
    one.breaker.record(one.breaker.admit(assembled.clock.now), Verdict.FAILURE, assembled.clock.now)
    one.in_flight = 2
    target = assembled.route("outbound").targets[0]
    target.codes["http1", 200] = 7
    users.budget.deposit(assembled.clock.now)

    second = assembled.load(TWO.replace("weight: 3", "weight: 5"))

    assert second.version == 2
    assert second is not first
    assert second.clusters["users"] is users
    assert users.endpoints == (one, two)
    assert two.weight == 5
    assert users.pool(one, "http1") is pool
    assert not pool.closed
    assert one.breaker.counts(assembled.clock.now) == (1, 1)
    assert one.in_flight == 2
    assert assembled.route("outbound").targets[0] is target
    assert users.budget.remaining(assembled.clock.now) == 100.2


def test_an_open_breaker_stays_open_and_its_time_runs_on(assembled: Assembled) -> None:
    users = assembled.load(TWO).clusters["users"]
    breaker = users.endpoints[0].breaker
    for _ in range(5):
        breaker.record(breaker.admit(assembled.clock.now), Verdict.FAILURE, assembled.clock.now)
    assert breaker.state == OPEN
    until = breaker.open_until
    assembled.load(TWO)
    assert (breaker.state, breaker.open_until) == (OPEN, until)
    assert users.endpoints[0].breaker is breaker
    assert users.balancer.pick((), 0, assembled.clock.now) is users.endpoints[1]


def test_endpoints_come_and_go_by_address(assembled: Assembled) -> None:
    users = assembled.load(TWO).clusters["users"]
    one, two = users.endpoints
    gone = users.pool(two, "http1")
    assembled.load(TWO.replace("'a:1', {address: 'b:1', weight: 3, zone: eu, priority: 1}", "'z:1', 'a:1'"))
    assert [endpoint.name for endpoint in users.endpoints] == ["z:1", "a:1"]
    assert users.endpoints[1] is one
    assert gone.closed


def test_a_removed_cluster_drains_and_stops_its_timers(assembled: Assembled) -> None:
    orders = assembled.load(TWO).clusters["orders"]
    pool = orders.pool(orders.endpoints[0], "http1")
    assembled.load("clusters: {users: {endpoints: ['a:1'], listen: '127.0.0.1:1'}}")
    assert orders.removed
    assert pool.closed
    assert orders not in assembled.timers.waiting.values()
    assert set(assembled.snapshot.clusters) == {"users"}


def test_changed_policies_reach_what_was_carried_over(assembled: Assembled) -> None:
    users = assembled.load("clusters: {users: {endpoints: ['a:1'], listen: '127.0.0.1:1'}}").clusters["users"]
    breaker = users.endpoints[0].breaker
    assembled.load("""
        clusters:
          users:
            endpoints: ['a:1']
            listen: '127.0.0.1:1'
            breaker: {consecutive: 1}
            limits: {requests: 1}
            balance: {policy: round_robin}
            timeouts: {connect: 7s}
            retry: {budget: {floor: 0, ratio: 0}}
        """)
    now = assembled.clock.now
    assert (users.policy, users.connect_timeout, users.requests.maximum) == ("round_robin", 7.0, 1)
    assert users.budget.remaining(now) == 0.0
    breaker.record(breaker.admit(now), Verdict.FAILURE, now)
    assert breaker.state == OPEN
    assert assembled.events[-1][0] == "breaker"


def test_overload_policies_come_go_and_remember(assembled: Assembled) -> None:
    plain = "clusters: {users: {endpoints: ['a:1'], listen: '127.0.0.1:1'}}"
    users = assembled.load(plain).clusters["users"]
    assert (users.adaptive, users.admission, users.learning) == (None, None, False)
    assert users.requests.try_acquire(), "nobody is asked anything"

    guarded = plain.replace("listen", "limits: {requests: 200, adaptive: true}, admission: true, listen")
    assembled.load(guarded)
    adaptive, admission = users.adaptive, users.admission
    assert adaptive is not None
    assert admission is not None
    assert users.learning
    assert (users.requests.maximum, users.requests.in_use) == (50, 1)
    assert not users.requests.try_acquire(), "admission wants to be asked"

    # What they know lives through a reload, within the new bounds.
    assembled.load(guarded.replace("requests: 200", "requests: 30"))
    assert (users.adaptive, users.admission) == (adaptive, admission)
    assert users.requests.maximum == adaptive.limit == 30

    assembled.load(plain)
    assert (users.adaptive, users.admission, users.learning) == (None, None, False)
    assert (users.requests.maximum, users.requests.in_use) == (1024, 1)
    assert users.requests.try_acquire()


def test_hedges_come_go_and_remember(assembled: Assembled) -> None:
    def text(hedge: str) -> str:
        return f"clusters: {{users: {{endpoints: ['a:1', 'b:1'], listen: '127.0.0.1:19001', {hedge}}}}}"

    assembled.load(text("hedge: true"))
    users = assembled.snapshot.clusters["users"]
    hedging = users.hedging
    assert hedging is not None
    assert users.learning
    assert assembled.route("users").hedge == HedgePolicy(quantile=0.95)
    hedging.results["won"] = 3

    # A reload changes when and how often, and keeps what was seen
    assembled.load(text("hedge: {after: 50ms, budget: 10%}"))
    assert users.hedging is hedging
    assert hedging.results["won"] == 3
    assert assembled.route("users").hedge == HedgePolicy(seconds=0.05)

    assembled.load(text("hedge: false"))
    assert assembled.snapshot.clusters["users"].hedging is None
    assert not assembled.snapshot.clusters["users"].learning
    assert assembled.route("users").hedge is None


def test_who_is_ejected_stays_out_over_a_reload(assembled: Assembled) -> None:
    def text(endpoints: str, ejection: str) -> str:
        return f"clusters: {{users: {{endpoints: [{endpoints}], outlier_ejection: {ejection}}}}}"

    three = "'a:1', 'b:1', 'c:1'"
    assembled.load(text(three, "{min_requests: 10}"))
    users = assembled.snapshot.clusters["users"]
    for endpoint in users.endpoints:
        endpoint.verdicts[Verdict.FAILURE if endpoint.name == "b:1" else Verdict.SUCCESS] += 10
    after(assembled, 10.1)
    assert [endpoint.ejected for endpoint in users.endpoints] == [False, True, False]

    # Whoever is still there is as it was, for as long as was said
    assembled.load(text(f"{three}, 'd:1'", "{base: 60s}"))
    assert [endpoint.ejected for endpoint in users.endpoints] == [False, True, False, False]
    after(assembled, 30.0)
    assert not any(endpoint.ejected for endpoint in users.endpoints)

    # Without the policy nobody is out
    users.set_ejected(users.endpoints[0], True)
    assembled.load(text(three, "false"))
    assert not any(endpoint.ejected for endpoint in users.endpoints)
    assert users.ejection is None


def after(assembled: Assembled, seconds: float) -> None:
    """Let time pass; timers fire when they are due."""
    until = assembled.clock.now + seconds
    while (due := assembled.timers.due(until)) is not None:
        when, token = due
        assembled.clock.now = when
        assembled.timers.fire(token)
    assembled.clock.now = until


def test_priorities_are_bound_to_routes(assembled: Assembled) -> None:
    listeners = assembled.load("""
        clusters: {users: {endpoints: ['a:1'], listen: '127.0.0.1:1'}}
        listeners:
          out: {bind: '127.0.0.1:0', priority_header: X-Own, routes: [{to: users, priority: sheddable}]}
          deaf: {bind: '127.0.0.1:0', priority_header: null, routes: [{to: users, priority: critical}]}
        """).listeners
    found = {name: each.table.routes[0] for name, each in listeners.items()}
    assert {name: (route.priority, route.priority_header) for name, route in found.items()} == {
        "out": (SHEDDABLE, b"x-own"),
        "deaf": (CRITICAL, b""),
        "users": (DEFAULT, b"x-sidecar-priority"),
    }


def test_tls_switched_on_is_for_new_connections(assembled: Assembled) -> None:
    plain = "clusters: {users: {endpoints: ['a:1'], listen: '127.0.0.1:1'}}"
    users = assembled.load(plain).clusters["users"]
    pool = users.pool(users.endpoints[0], "http1")
    assembled.load(plain.replace("listen", "tls: {verify: none}, listen"))
    assert users.tls is not None
    assert pool.closed
    assert users.pool(users.endpoints[0], "http1") is not pool
    kept = users.pool(users.endpoints[0], "http1")
    assembled.load(plain.replace("listen", "tls: {verify: none}, listen"))
    assert users.pool(users.endpoints[0], "http1") is kept
    # What was let pass without a look is not used once it would not be.
    assembled.load(plain.replace("listen", "tls: {}, listen"))
    assert kept.closed
    assert users.pool(users.endpoints[0], "http1") is not kept


@pytest.mark.parametrize("what", ["tls", "routes", "balancer"])
def test_a_reload_that_fails_changes_nothing(assembled: Assembled, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = assembled.load(TWO)
    users = before.clusters["users"]
    timers = dict(assembled.timers.waiting)
    seen = (users.endpoints, users.policy, users.connect_timeout, users.requests.maximum, users.balancer, users.tls)
    bad = """
        clusters:
          users:
            endpoints: ['x:1']
            timeouts: {connect: 9s}
            limits: {requests: 1}
            tls: {verify: none}
            balance: {policy: random}
          fresh: {endpoints: ['y:1']}
        listeners: {outbound: {bind: '127.0.0.1:15001', routes: [{to: users}]}}
        """

    def boom(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("cannot be made")

    if what == "tls":
        assembled.tls_fails = True
    elif what == "routes":
        monkeypatch.setattr("sidecar.assembly._rule", boom)
    else:
        # The cluster that is new can be made, the one that is carried over cannot.
        real = assemble.__globals__["_balancer"]
        monkeypatch.setattr(
            "sidecar.assembly._balancer",
            lambda spec, parts: boom() if spec.balance.policy == "random" else real(spec, parts),
        )
    with pytest.raises((OSError, ValueError), match=r"no such certificate|cannot be made"):
        assembled.load(bad)

    assert assembled.snapshot is before
    after = (users.endpoints, users.policy, users.connect_timeout, users.requests.maximum, users.balancer, users.tls)
    assert after == seen
    assert not users.removed
    assert assembled.timers.waiting == timers, "a cluster that never came to be keeps no timer"


def test_counters_of_a_fixed_answer_live_on(assembled: Assembled) -> None:
    text = """
        clusters: {users: {endpoints: ['a:1']}}
        listeners: {out: {bind: '127.0.0.1:0', routes: [{respond: {status: 204}}]}}
        """
    assembled.load(text)
    codes = assembled.route("out").codes
    codes["http1", 204] = 3
    assembled.load(text)
    assert assembled.route("out").codes is codes


# --------------------------------------------------------------------------- forward

FORWARD = """
clusters: {users: {endpoints: ['a:1']}}
defaults: {timeouts: {connect: 7s, request: 8s}, limits: {connections: 9}, retry: {attempts: 2}}
listeners:
  egress:
    bind: 127.0.0.1:0
    mode: forward
    allow: ['*.org', '*.net:443']
    routes: [{match: {host: users.internal}, to: users}]
"""


def test_hosts_under_allow_get_a_cluster_of_their_own(assembled: Assembled) -> None:
    assembled.load(FORWARD)
    route = assembled.route("egress", "www.example.org:8080")
    assert isinstance(route, Route)
    cluster = route.targets[0].cluster
    assert [endpoint.name for endpoint in cluster.endpoints] == ["www.example.org:8080"]
    assert (cluster.connect_timeout, cluster.connections.maximum) == (7.0, 9)
    assert (route.request_timeout, route.retry.attempts) == (8.0, 2)
    assert assembled.route("egress", "www.example.org:8080") is route
    assert assembled.route("egress", "www.example.org") is not route
    assert assembled.route("egress", "evil.com") is Failure.FORBIDDEN
    assert assembled.route("egress", "a.net") is Failure.FORBIDDEN
    assert assembled.route("egress", "users.internal").targets[0].cluster.name == "users"


def test_an_address_in_brackets(assembled: Assembled) -> None:
    assembled.load(FORWARD.replace("'*.org'", "'[::1]'"))
    route = assembled.route("egress", "[::1]:8080")
    assert route.targets[0].cluster.endpoints[0].address.host == "::1"


def test_the_hosts_are_bounded_and_the_oldest_goes_first(assembled: Assembled) -> None:
    assembled.load(FORWARD)
    first = assembled.route("egress", "h0.org").targets[0].cluster
    rest = [assembled.route("egress", f"h{number}.org").targets[0].cluster for number in range(1, 257)]
    assert first.removed
    assert not any(cluster.removed for cluster in rest)
    assert len(assembled.timers.waiting) == 257


def test_a_reload_ends_the_clusters_of_hosts_and_keeps_their_counters(assembled: Assembled) -> None:
    assembled.load(FORWARD)
    route = assembled.route("egress", "www.example.org")
    route.targets[0].codes["http1", 200] = 4
    assembled.load(FORWARD)
    assert route.targets[0].cluster.removed
    assert assembled.route("egress", "www.example.org").targets[0].codes == {("http1", 200): 4}
