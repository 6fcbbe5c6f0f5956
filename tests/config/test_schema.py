"""What each section takes, defaults to and refuses."""

import json
import re

import pytest

from sidecar.config.schema import Spec, json_schema
from sidecar.model.address import Address
from tests.config.loading import cluster, errors_of, lines_of, load, route


def test_a_cluster_with_endpoints_alone_has_the_contracts_defaults() -> None:
    plain = load("clusters: {u: {endpoints: ['a:1']}}").model_dump(mode="json", by_alias=True)["clusters"]["u"]
    assert plain == {
        "listen": None,
        "protocol": "auto",
        "endpoints": [{"address": "a:1", "weight": 1, "zone": "", "priority": 0}],
        "balance": {"policy": "peak_ewma", "key": None, "slow_start": 0},
        "timeouts": {"connect": "1s", "request": "15s", "try": None, "idle": "5m", "min_rate": "100B", "streams": []},
        "retry": {
            "attempts": 3,
            "on": ["unsent", "reset", "timeout", 502, 503, 504],
            "grpc_on": ["unavailable"],
            "idempotent": [],
            "backoff": {"base": "25ms", "max": "250ms"},
            "budget": {"ratio": 0.2, "floor": 10.0},
            "replay": "256KiB",
        },
        "breaker": {
            "window": "10s",
            "failure_ratio": 0.5,
            "min_requests": 10,
            "consecutive": 5,
            "open": {"base": "1s", "max": "1m"},
            "probes": 1,
        },
        "limits": {
            "connections": 1024,
            "pending": 1024,
            "requests": 1024,
            "adaptive": None,
            "shares": {"sheddable": 0.8, "critical": 1.1},
        },
        "admission": None,
        "hedge": None,
        "outlier_ejection": None,
        "health_check": None,
        "tls": None,
    }


def test_defaults_of_the_whole() -> None:
    spec = load("clusters: {}", {"SIDECAR_SERVICE": "checkout"})
    assert (spec.service, spec.access_log, spec.shutdown) == ("checkout", "off", 25.0)
    assert spec.admin.bind == Address("127.0.0.1", 15000)


def test_units_are_seconds_and_bytes() -> None:
    u = load(cluster("timeouts: {connect: 250ms, try: 2s}, retry: {replay: 1MiB}")).clusters["u"]
    assert (u.timeouts.connect, u.timeouts.try_, u.retry.replay) == (0.25, 2.0, 1 << 20)


@pytest.mark.parametrize("none", ["0", "null", "0s"])
def test_no_request_timeout(none: str) -> None:
    assert load(cluster(f"timeouts: {{request: {none}}}")).clusters["u"].timeouts.request == 0.0


def test_a_section_with_nothing_in_it_is_not_written() -> None:
    spec = load("defaults:\nlisteners:\nclusters:\n  u:\n    endpoints: ['a:1']\n    retry:\n    tls:\n")
    assert spec.clusters["u"].retry.attempts == 3
    assert spec.listeners == {}


def test_a_health_check_of_each_kind() -> None:
    for kind, found in (("http: {path: /x}", "http"), ("grpc: {}", "grpc"), ("tcp: {}", "tcp")):
        check = load(cluster(f"health_check: {{{kind}}}")).clusters["u"].health_check
        assert check is not None
        assert [name for name in ("http", "grpc", "tcp") if getattr(check, name) is not None] == [found]


@pytest.mark.parametrize(
    ("keys", "path", "reason"),
    [
        ("retry: {attempts: 0}", "retry.attempts", "must be at least 1"),
        ("retry: {attempts: 11}", "retry.attempts", "must be at most 10"),
        ("retry: {attempts: 1.5}", "retry.attempts", "must be a whole number"),
        ("retry: {attempts: true}", "retry.attempts", "must be a whole number"),
        ("retry: {on: [200]}", "retry.on[0]", "200 is no reason to retry"),
        ("retry: {on: [5xx]}", "retry.on[0]", "'5xx' is no reason to retry"),
        ("retry: {on: reset}", "retry.on", "must be a list"),
        ("retry: {grpc_on: [ok]}", "retry.grpc_on[0]", "'ok' is no gRPC error code"),
        ("retry: {budget: {ratio: 1.1}}", "retry.budget.ratio", "must be at most 1"),
        ("retry: {backoff: {base: 1s, max: 1ms}}", "retry.backoff", "max is shorter than base"),
        ("retry: {backoff: {base: 1s}}", "retry.backoff", "max is shorter than base"),
        ("breaker: {failure_ratio: 0}", "breaker.failure_ratio", "must be more than 0"),
        ("breaker: {open: {base: 2m}}", "breaker.open", "max is shorter than base"),
        ("breaker: {probes: 0}", "breaker.probes", "must be at least 1"),
        ("limits: {connections: -1}", "limits.connections", "must be at least 1"),
        ("protocol: h2", "protocol", "'h2' is not one of auto, http1, http2"),
        ("balance: {policy: maglev}", "balance", "maglev needs a key"),
        ("balance: {key: path}", "balance", "peak_ewma takes no key"),
        ("timeouts: {connect: 0}", "timeouts.connect", "must be longer than 0"),
        ("timeouts: {streams: [x]}", "timeouts.streams[0]", "'x' is no gRPC method"),
        ("health_check: {}", "health_check", "needs exactly one of http, grpc and tcp, not none"),
        (
            "health_check: {tcp: {}, grpc: {}}",
            "health_check",
            "needs exactly one of http, grpc and tcp, not grpc and tcp",
        ),
        ("tls: {cert: /no/such}", "tls.cert", "cannot read '/no/such': No such file or directory"),
        ("tls: {verify: false}", "tls.verify", "False is neither true nor none"),
        ("tls: []", "tls", "must be a mapping"),
        ("listen: 'a:x'", "listen", "'x' is no port: 0 to 65535"),
    ],
)
def test_what_a_cluster_refuses(keys: str, path: str, reason: str) -> None:
    (error,) = errors_of(cluster(keys))
    assert (error.path, error.reason) == (f"clusters.u.{path}", reason)


@pytest.mark.parametrize(
    ("endpoint", "path", "reason"),
    [
        ("", "endpoints", "needs at least 1"),
        ("5", "endpoints[0]", "must be a mapping"),
        ("'a'", "endpoints[0].address", "an address is host:port, [v6]:port or unix:/path"),
        ("{weight: 1}", "endpoints[0].address", "is required"),
        ("{address: 'a:1', weight: 0}", "endpoints[0].weight", "must be at least 1"),
        ("{address: 'a:1', weight: '2'}", "endpoints[0].weight", "must be a whole number"),
        ("'a:1', {address: 'a:1'}", "endpoints", "endpoint a:1 is listed twice"),
    ],
)
def test_what_an_endpoint_refuses(endpoint: str, path: str, reason: str) -> None:
    (error,) = errors_of(f"clusters: {{u: {{endpoints: [{endpoint}]}}}}")
    assert (error.path, error.reason) == (".".join(part for part in ("clusters.u", path) if part), reason)


def test_tls_on_by_an_empty_mapping() -> None:
    tls = load(cluster("tls: {}")).clusters["u"].tls
    assert tls is not None
    assert tls.verify is True


def test_a_route_in_full() -> None:
    spec = load(
        """
        clusters: {u: {endpoints: ['a:1']}, v: {endpoints: ['b:1']}}
        listeners:
          o:
            bind: unix:/run/o.sock
            routes:
              - match: {host: Users.Internal, prefix: /v1, methods: [GET], headers: {X-Beta: "1", b: {present: false}}}
                to: {u: 90, v: 10}
                timeout: 2s
                rewrite: {prefix: /, host: "other:8443"}
                headers: {request: {set: {X-A: b}, remove: [X-C]}}
              - match: {host: [a.b, '*.c'], grpc: pkg.S/M}
                name: mine
                to: v
        """
    )
    first, second = spec.listeners["o"].routes
    assert (first.name, second.name) == ("o[0]", "mine")
    assert (first.match.host, second.match.host) == (["users.internal"], ["a.b", "*.c"])
    assert (first.match.headers["x-beta"].value, first.match.headers["b"].present) == ("1", False)
    assert (first.to, second.to) == ({"u": 90, "v": 10}, {"v": 1})
    assert second.match.grpc == "/pkg.S/M"
    assert first.rewrite is not None
    assert (first.rewrite.prefix, first.rewrite.host) == ("/", "other:8443")
    assert first.headers is not None
    assert (first.headers.request.set, first.headers.request.remove) == ({"x-a": "b"}, ["x-c"])


@pytest.mark.parametrize(
    ("keys", "path", "reason"),
    [
        ("match: {path: /x}", "", "needs exactly one of to, redirect and respond"),
        ("to: u, respond: {}", "", "needs exactly one of to, redirect and respond"),
        ("to: {}", "to", "needs at least 1"),
        ("to: {u: 0}", "to.u", "must be at least 1"),
        ("to: [u]", "to", "must be a mapping"),
        ("to: u, match: {path: /a, prefix: /b}", "match", "path and prefix cannot stand together"),
        ("to: u, match: {regex: '('}", "match.regex", "missing ): ("),
        ("to: u, match: {headers: {x: 1}}", "match.headers.x.value", "must be text"),
        ("to: u, match: {headers: {x: {}}}", "match.headers.x", "needs exactly one of value, present and regex"),
        ("to: u, match: {methods: []}", "match.methods", "needs at least 1"),
        ("to: u, match: {host: []}", "match.host", "needs at least 1"),
        ("to: u, rewrite: {}", "rewrite", "needs prefix or host"),
        ("to: u, rewrite: {host: '*.example.com'}", "rewrite.host", "'*.example.com' is no host"),
        ("to: u, rewrite: {prefix: /x}", "", "a new prefix needs something to stand for"),
        ("to: u, timeout: 1s, timeouts: {request: 2s}", "", "timeout and timeouts.request say the same thing"),
        ("to: u, headers: {request: {set: {connection: x}}}", "headers.request.set.connection", "belongs to"),
        ("redirect: {status: 200, path: /x}", "redirect", "200 is no redirect"),
        ("redirect: {}", "redirect", "sends the client where it came from"),
        ("redirect: {path: /a, prefix: /b}", "redirect", "path and prefix cannot stand together"),
        ("redirect: {host: 'a/b'}", "redirect.host", "is no host"),
        ("respond: {status: 100}", "respond.status", "must be at least 200"),
        ("respond: {status: 204, body: x}", "respond", "a 204 has no body"),
        ("to: u, retry: {budget: {}}", "retry.budget", "unknown key"),
    ],
)
def test_what_a_route_refuses(keys: str, path: str, reason: str) -> None:
    (error,) = errors_of(route(keys))
    assert error.path == ".".join(part for part in ("listeners.o.routes[0]", path) if part)
    assert reason in error.reason


@pytest.mark.parametrize(
    ("listener", "reason"),
    [
        ("{routes: [{to: u}]}", "is required"),
        ("{bind: 'a:1'}", "needs at least one route"),
        ("{bind: 'a:1', allow: ['a.b'], routes: [{to: u}]}", "allow is for mode: forward"),
        ("{bind: 'a:1', mode: forward, allow: ['a.b:0']}", "is no port"),
    ],
)
def test_what_a_listener_refuses(listener: str, reason: str) -> None:
    (error,) = errors_of(f"clusters: {{u: {{endpoints: ['a:1']}}}}\nlisteners: {{o: {listener}}}")
    assert reason in error.reason


def test_what_is_not_given_on_a_route_is_the_clusters() -> None:
    text = "retry: {attempts: 5, backoff: {base: 10ms}}, timeouts: {request: 9s, try: 2s}"
    base = load(cluster(text)).clusters["u"]
    one = load(route("to: u, retry: {on: [], backoff: {max: 1s}}, timeouts: {try: null}")).listeners["o"].routes[0]
    retry, timeouts = one.retry_over(base.retry), one.timeouts_over(base.timeouts)
    assert (retry.attempts, retry.on, retry.backoff.base, retry.backoff.max) == (5, [], 0.01, 1.0)
    # null was given: no per-try timeout. The request's was not: the cluster's.
    assert (timeouts.try_, timeouts.request) == (0.0, 9.0)
    plain = load(route("to: u, timeout: 0")).listeners["o"].routes[0]
    assert plain.timeouts_over(base.timeouts).request == 0.0
    assert plain.retry_over(base.retry) is base.retry


def test_listen_is_a_listener_with_one_route() -> None:
    spec = load(cluster("listen: '127.0.0.1:0'"))
    assert spec.listeners == {}
    listener = spec.all_listeners()["u"]
    (only,) = listener.routes
    assert (listener.mode, listener.bind, only.name, only.to) == ("http", Address("127.0.0.1", 0), "u[0]", {"u": 1})


def test_nothing_can_be_changed_afterwards() -> None:
    spec = load("service: x")
    with pytest.raises(ValueError, match="frozen"):
        spec.service = "y"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("clusterz: {}", "did you mean clusters?"),
        (cluster("retries: {}"), "did you mean retry?"),
        (cluster("timeouts: {conect: 1s}"), "did you mean connect?"),
        (route("to: u, breaker: {}"), "set it on the cluster"),
        (route("to: u, timeouts: {connect: 1s}"), "set it on the cluster"),
        (
            route("to: u, tu: u"),
            "known: name, match, to, redirect, respond, timeout, timeouts, retry, hedge, priority, rewrite, headers, "
            "clients",
        ),
        ("admin: {port: 1}", "known: bind, allowed_hosts, token_file, open_metrics, socket_mode"),
    ],
)
def test_an_unknown_key_is_told_its_nearest(text: str, hint: str) -> None:
    (error,) = errors_of(text)
    assert (error.reason, error.hint) == ("unknown key", hint)


def test_errors_are_printed_with_their_place() -> None:
    assert lines_of("clusters:\n  u:\n    endpoints: ['a:1']\n    timeouts: {connect: 5}\n") == [
        "f.yaml:4:25: clusters.u.timeouts.connect: 5 has no unit (write 5s)"
    ]


class TestJsonSchema:
    def test_every_key_is_described(self) -> None:
        schema = json_schema()
        sections = [schema, *schema["$defs"].values()]
        undescribed = [
            (section.get("title"), key)
            for section in sections
            for key, part in section.get("properties", {}).items()
            # pydantic leaves out the description that its section has anyway.
            if not part.get("description")
            and not schema["$defs"].get(part.get("$ref", "").rpartition("/")[2], {}).get("description")
        ]
        assert undescribed == []

    def test_it_is_json_and_names_its_dialect(self) -> None:
        schema = json.loads(json.dumps(json_schema()))
        assert schema["$schema"].startswith("https://json-schema.org/")
        assert schema["additionalProperties"] is False

    def test_keys_are_the_yamls(self) -> None:
        definitions = json_schema()["$defs"]
        assert "try" in definitions["Timeouts"]["properties"]
        assert set(json_schema()["properties"]) == {field.alias or name for name, field in Spec.model_fields.items()}

    def test_a_duration_is_text_or_zero(self) -> None:
        options = json_schema()["properties"]["shutdown"]["anyOf"]
        patterns = [
            option["pattern"] for part in options for option in part.get("anyOf", [part]) if "pattern" in option
        ]
        assert any(re.fullmatch(pattern, "1m30s") for pattern in patterns)
        assert not any(re.search(pattern, "5") for pattern in patterns)
