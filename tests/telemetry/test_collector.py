"""Every metric of the contract, with exactly its labels."""

from collections.abc import Mapping

import pytest
from prometheus_client.metrics_core import Metric

from sidecar.model.outcome import Failure, Skipped, Verdict
from sidecar.policy.hedge import MADE, NOT_MADE, Hedging
from sidecar.policy.outlier import OutlierPolicy
from sidecar.policy.retry import RetryPolicy
from sidecar.telemetry.collector import Collector
from sidecar.telemetry.counts import code_name
from tests.telemetry.parts import Parts, redirect, route_to

RELOADS = {"ok": 2, "rejected": 1, "unchanged": 0}

# Name: type and labels, as the contract has them.
CONTRACT = {
    "sidecar_requests": ("counter", {"cluster", "route", "protocol", "code"}),
    "sidecar_request_duration_seconds": ("histogram", {"cluster"}),
    "sidecar_requests_in_flight": ("gauge", {"cluster"}),
    "sidecar_attempts": ("counter", {"cluster", "endpoint", "verdict"}),
    "sidecar_attempt_duration_seconds": ("histogram", {"cluster", "endpoint"}),
    "sidecar_retries": ("counter", {"cluster", "reason"}),
    "sidecar_retries_skipped": ("counter", {"cluster", "reason"}),
    "sidecar_retry_budget_remaining": ("gauge", {"cluster"}),
    "sidecar_breaker_state": ("gauge", {"cluster", "endpoint"}),
    "sidecar_breaker_transitions": ("counter", {"cluster", "endpoint", "from", "to"}),
    "sidecar_endpoint_healthy": ("gauge", {"cluster", "endpoint"}),
    "sidecar_endpoint_in_flight": ("gauge", {"cluster", "endpoint"}),
    "sidecar_connections": ("gauge", {"side", "protocol"}),
    "sidecar_local_replies": ("counter", {"cluster", "reason"}),
    "sidecar_config_reloads": ("counter", {"result"}),
    "sidecar_config_version": ("gauge", set()),
    "sidecar_build_info": ("gauge", {"version", "python"}),
}


def scrape(parts: Parts) -> dict[str, Metric]:
    families = list(Collector(parts.runtime, reloads=RELOADS, version="1.2.3").collect())
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    return {family.name: family for family in families}


def value(families: Mapping[str, Metric], name: str, **labels: str) -> float | None:
    """The one sample with exactly these labels, None when there is none."""
    family = families[name.removesuffix("_total").removesuffix("_count").removesuffix("_sum").removesuffix("_bucket")]
    found = [sample.value for sample in family.samples if sample.name == name and sample.labels == labels]
    assert len(found) < 2
    return found[0] if found else None


@pytest.mark.parametrize("name", CONTRACT)
def test_has_every_metric_of_the_contract_with_its_labels(parts: Parts, name: str) -> None:
    users = parts.cluster("users", "10.0.0.1:80")
    route = route_to(users)
    route.targets[0].codes["http1", 200] = 1
    users.retries["reset"] = 1
    parts.go_live(route)

    family = scrape(parts)[name]

    kind, labels = CONTRACT[name]
    assert family.type == kind
    assert {frozenset(sample.labels) - {"le"} for sample in family.samples} == {frozenset(labels)}


def test_process_metrics_are_there(parts: Parts) -> None:
    families = scrape(parts)
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= families.keys()


def test_bounded_label_sets_begin_at_zero(parts: Parts) -> None:
    policy = RetryPolicy(failures=frozenset({Failure.RESET}), statuses=frozenset({503}), grpc_codes=frozenset({14}))
    users = parts.cluster("users", "10.0.0.1:80")
    parts.go_live(route_to(users, retry=policy))

    families = scrape(parts)

    one = {"cluster": "users", "endpoint": "10.0.0.1:80"}
    for verdict in ("success", "failure", "ignored"):
        assert value(families, "sidecar_attempts_total", **one, verdict=verdict) == 0
    changes = [("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed")]
    for old, new in changes:
        assert value(families, "sidecar_breaker_transitions_total", **one, **{"from": old, "to": new}) == 0
    assert len(families["sidecar_breaker_transitions"].samples) == len(changes)
    assert {sample.labels["reason"] for sample in families["sidecar_retries"].samples} == {
        "reset",
        "503",
        "unavailable",
    }
    skipped = {sample.labels["reason"] for sample in families["sidecar_retries_skipped"].samples}
    assert skipped == {reason.value for reason in Skipped}
    for reason in ("no_endpoint", "breaker_open", "overloaded", "timeout", "reset", "connect_failed"):
        assert value(families, "sidecar_local_replies_total", cluster="users", reason=reason) == 0
    for reason in ("no_route", "bad_request", "too_large", "forbidden"):
        assert value(families, "sidecar_local_replies_total", cluster="", reason=reason) == 0
    assert value(families, "sidecar_attempt_duration_seconds_count", **one) == 0


def test_hedges_are_told_where_they_are_on(parts: Parts) -> None:
    users, orders = parts.cluster("users", "10.0.0.1:80"), parts.cluster("orders", "10.0.0.2:80")
    users.regulate(None, None, 8, Hedging(0.05, parts.clock.now))
    parts.go_live(route_to(users), route_to(orders, "out[1]"))
    assert users.hedging is not None
    users.hedging.results["won"] += 2

    families = scrape(parts)

    assert value(families, "sidecar_hedges_total", cluster="users", result="won") == 2
    assert {sample.labels["result"] for sample in families["sidecar_hedges"].samples} == {*MADE, *NOT_MADE}
    assert {sample.labels["cluster"] for sample in families["sidecar_hedges"].samples} == {"users"}


def test_ejections_and_panics(parts: Parts) -> None:
    users = parts.cluster("users", "10.0.0.1:80", "10.0.0.2:80")
    parts.go_live(route_to(users))
    one, other = users.endpoints
    families = scrape(parts)
    assert value(families, "sidecar_endpoint_ejected", cluster="users", endpoint=one.name) == 0
    assert value(families, "sidecar_cluster_panic", cluster="users") == 0

    users.eject_outliers(OutlierPolicy())
    one.ejections += 1
    users.set_ejected(one, True)
    users.set_health(other, False)

    families = scrape(parts)
    assert value(families, "sidecar_endpoint_ejected", cluster="users", endpoint=one.name) == 1
    assert value(families, "sidecar_ejections_total", cluster="users", endpoint=one.name) == 1
    assert value(families, "sidecar_ejections_total", cluster="users", endpoint=other.name) == 0
    assert value(families, "sidecar_cluster_panic", cluster="users") == 1
    assert value(families, "sidecar_cluster_panics_total", cluster="users") == 1


def test_requests_are_counted_by_cluster_route_protocol_and_code(parts: Parts) -> None:
    users = parts.cluster("users", "10.0.0.1:80")
    route, moved = route_to(users), redirect("out[1]")
    route.targets[0].codes.update({("http1", 200): 5, ("grpc", 0): 3, ("grpc", 14): 2, ("grpc", 503): 1})
    moved.codes["http2", 302] = 4
    parts.runtime.unrouted.update({("http1", 404): 6, ("grpc", 12): 7})
    parts.go_live(route, moved)

    families = scrape(parts)

    total = "sidecar_requests_total"
    users_route = {"cluster": "users", "route": "out[0]"}
    assert value(families, total, **users_route, protocol="http1", code="200") == 5
    assert value(families, total, **users_route, protocol="grpc", code="OK") == 3
    assert value(families, total, **users_route, protocol="grpc", code="UNAVAILABLE") == 2
    # Answered by something that speaks no gRPC.
    assert value(families, total, **users_route, protocol="grpc", code="503") == 1
    assert value(families, total, cluster="", route="out[1]", protocol="http2", code="302") == 4
    assert value(families, total, cluster="", route="", protocol="http1", code="404") == 6
    assert value(families, total, cluster="", route="", protocol="grpc", code="UNIMPLEMENTED") == 7


def test_one_route_name_twice_is_one_row(parts: Parts) -> None:
    users = parts.cluster("users", "10.0.0.1:80")
    old, new = route_to(users), route_to(users)
    old.targets[0].codes["http1", 200] = 1
    new.targets[0].codes["http1", 200] = 2
    parts.go_live(old, new)

    families = scrape(parts)

    row = {"cluster": "users", "route": "out[0]", "protocol": "http1", "code": "200"}
    assert value(families, "sidecar_requests_total", **row) == 3


def test_replies_without_a_cluster_are_counted_by_reason(parts: Parts) -> None:
    parts.runtime.unrouted.update({("http1", 404): 1, ("grpc", 12): 2, ("http1", 403): 4, ("grpc", 13): 8})
    parts.runtime.refusals["too_large"] = 16
    users = parts.cluster("users", "10.0.0.1:80")
    users.local_replies["breaker_open"] = 32

    families = scrape(parts)
    assert value(families, "sidecar_local_replies_total", cluster="users", reason="breaker_open") is None  # not live

    parts.go_live()
    families = scrape(parts)
    total = "sidecar_local_replies_total"
    assert value(families, total, cluster="", reason="no_route") == 3
    assert value(families, total, cluster="", reason="forbidden") == 4
    assert value(families, total, cluster="", reason="internal") == 8
    assert value(families, total, cluster="", reason="too_large") == 16
    assert value(families, total, cluster="users", reason="breaker_open") == 32


def test_a_soft_failure_is_a_failure(parts: Parts) -> None:
    users = parts.cluster("users", "10.0.0.1:80")
    users.endpoints[0].verdicts[Verdict.FAILURE] = 2
    users.endpoints[0].verdicts[Verdict.SOFT_FAILURE] = 3
    parts.go_live()

    one = {"cluster": "users", "endpoint": "10.0.0.1:80"}
    assert value(scrape(parts), "sidecar_attempts_total", **one, verdict="failure") == 5


def test_histograms_are_cumulative_in_powers_of_two(parts: Parts) -> None:
    users = parts.cluster("users", "10.0.0.1:80")
    for seconds in (0.0001, 0.25, 0.3, 1000.0):
        users.durations.record(seconds)
    parts.go_live()

    families = scrape(parts)

    def bucket(le: str) -> float | None:
        return value(families, "sidecar_request_duration_seconds_bucket", cluster="users", le=le)

    assert bucket("0.000244140625") == 1
    assert bucket("0.125") == 1
    assert bucket("0.25") == 2
    assert bucket("0.5") == 3
    assert bucket("128.0") == 3
    assert bucket("+Inf") == 4
    assert value(families, "sidecar_request_duration_seconds_count", cluster="users") == 4
    assert value(families, "sidecar_request_duration_seconds_sum", cluster="users") == pytest.approx(1000.5501)


def test_breaker_health_load_and_budget(parts: Parts) -> None:
    users = parts.cluster("users", "10.0.0.1:80", "10.0.0.2:80")
    one, two = users.endpoints
    for _ in range(2):
        one.breaker.record(one.breaker.admit(parts.clock.now), Verdict.FAILURE, parts.clock.now)
    two.healthy = False
    two.in_flight = 3
    users.requests.try_acquire()
    users.retries["reset"] = 2
    users.retries_skipped["budget"] = 1
    users.budget.try_withdraw(parts.clock.now)
    parts.runtime.connections["upstream", "http2"] = 9
    parts.go_live(version=7)

    families = scrape(parts)

    at = {"cluster": "users", "endpoint": "10.0.0.1:80"}
    other = {"cluster": "users", "endpoint": "10.0.0.2:80"}
    assert value(families, "sidecar_breaker_state", **at) == 2
    assert value(families, "sidecar_breaker_transitions_total", **at, **{"from": "closed", "to": "open"}) == 1
    assert value(families, "sidecar_endpoint_healthy", **at) == 1
    assert value(families, "sidecar_endpoint_healthy", **other) == 0
    assert value(families, "sidecar_endpoint_in_flight", **other) == 3
    assert value(families, "sidecar_requests_in_flight", cluster="users") == 1
    assert value(families, "sidecar_retries_total", cluster="users", reason="reset") == 2
    assert value(families, "sidecar_retries_skipped_total", cluster="users", reason="budget") == 1
    assert value(families, "sidecar_retry_budget_remaining", cluster="users") == 99
    assert value(families, "sidecar_connections", side="upstream", protocol="http2") == 9
    assert value(families, "sidecar_config_version") == 7
    assert value(families, "sidecar_config_reloads_total", result="ok") == 2
    assert value(families, "sidecar_config_reloads_total", result="unchanged") == 0


def test_the_series_of_a_removed_endpoint_go(parts: Parts) -> None:
    users = parts.cluster("users", "10.0.0.1:80", "10.0.0.2:80")
    parts.go_live()
    users.replace_endpoints([users.endpoints[1]])

    seen = {sample.labels.get("endpoint") for family in scrape(parts).values() for sample in family.samples}

    assert seen == {None, "10.0.0.2:80"}


@pytest.mark.parametrize(
    ("protocol", "code", "name"),
    [("grpc", 0, "OK"), ("grpc", 16, "UNAUTHENTICATED"), ("grpc", 404, "404"), ("http1", 200, "200")],
)
def test_code_names(protocol: str, code: int, name: str) -> None:
    assert code_name(protocol, code) == name
